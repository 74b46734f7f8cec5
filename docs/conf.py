"""Settings of Sphinx for the site; `python docs/build.py OUT` gathers the pages and starts it."""

from latex2mathml.converter import convert

project = "rbcnb"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "index"
exclude_patterns = ["_static"]

nb_execution_mode = "off"  # the notebooks come executed
nb_code_prompt_show = nb_code_prompt_hide = "Set-up"
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header"]  # a cell of a notebook may begin with a heading of the third rank

default_role = "py:obj"  # docstrings put names between single backticks
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
maximum_signature_line_length = 80
add_module_names = False

html_theme = "pydata_sphinx_theme"
html_title = "rbcnb"
html_static_path = ["../_static"]  # beside the copy of this file that build.py makes
html_css_files = ["site.css"]
html_sidebars = {"gallery": []}
html_math_renderer = "mathml"
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_prev_next": False,
    "pygments_light_style": "tango",
}
copyright = "the authors of rbcnb, MIT licence"


def setup(app):
    """Formulas as MathML, which browsers draw by themselves; the explorers' scripts where there is an explorer."""
    app.add_html_math_renderer("mathml", inline_renderers=(_inline, None), block_renderers=(_block, None))
    app.connect("html-page-context", _explorers)


def _inline(writer, node):
    writer.body.append(convert(node.astext()))
    raise _skip()


def _block(writer, node):
    writer.body.append(f'<div class="formula">{convert(node.astext(), display="block")}</div>')
    raise _skip()


def _skip():
    from docutils.nodes import SkipNode

    return SkipNode()


def _explorers(app, _page, _template, context, _tree):
    if "rbcnb-explorer" in context.get("body", ""):
        app.add_js_file("explorers.js", loading_method="defer")
