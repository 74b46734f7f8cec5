#!/usr/bin/env python
"""Writes rbcnb/plotting/vega.js.gz again: Vega, Vega-Lite and vega-embed as one script, as vl-convert bundles them.

Making it takes seconds, so that it is kept in the package: a notebook's first chart would wait for it.
"""

import gzip
from pathlib import Path

import vl_convert

script = vl_convert.javascript_bundle("window.rbcnbVega = vegaEmbed;")
target = Path(__file__).parent.parent / "rbcnb" / "plotting" / "vega.js.gz"
target.write_bytes(gzip.compress(script.encode("utf-8"), mtime=0))
versions = f"Vega {vl_convert.get_vega_version()}, vega-embed {vl_convert.get_vega_embed_version()}"
print(f"{target}: {versions}, Vega-Lite {vl_convert.get_vegalite_versions()[-1]}")
