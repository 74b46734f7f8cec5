"""Voila for one reader of one page on this machine: `rbcnb._utils.voila_page` starts it as a process of its own.

Voila checks no Host, and serves its static files to whoever asks. So a gate stands before all that it has: a request
passes whose Host is this machine at this port, whose Origin is the same (only a request that changes nothing may name
none), and which brings the page's key, in its address or as the cookie that Jupyter sets for that. Jupyter's own checks
stand behind it.
"""

import hashlib
import os
import secrets
import sys
from typing import Any

from jupyter_server.auth.identity import PasswordIdentityProvider
from tornado.httputil import HTTPServerRequest
from tornado.routing import Matcher, Rule
from tornado.web import RequestHandler, decode_signed_value
from traitlets import default
from voila.app import Voila

from rbcnb._utils.parent_watch import die_with_parent

KEY = "JUPYTER_TOKEN"  # in the environment, which no other user sees; a command line is seen by all
_HOSTS = ("127.0.0.1", "localhost", "[::1]")
_REFUSED = "403: open the address that the command printed, which holds the key of this page.\n"


class _Identity(PasswordIdentityProvider):
    """A key in the address lets a browser in, as Jupyter's does, and no further than its cookie."""

    @default("cookie_name")
    def _cookie_of_this_port(self) -> str:
        return f"rbcnb-{self.parent.port}"  # browsers send cookies to every port

    @default("cookie_options")
    def _cookie_of_this_page(self) -> dict[str, str]:
        return {"SameSite": "Strict"}

    def is_token_authenticated(self, _handler: RequestHandler) -> bool:
        """Never: Jupyter sends CORS headers to a request that is, and does not check its Origin."""
        return False


class _Stranger(Matcher):
    """Matches every request but those of the page's reader."""

    def __init__(self, app: "PageServer") -> None:
        self._app = app

    def match(self, request: HTTPServerRequest) -> dict[str, Any] | None:
        return None if self._is_for_here(request) and self._has_key(request) else {}

    def _is_for_here(self, request: HTTPServerRequest) -> bool:
        headers = request.headers
        host = headers.get("Host", "").lower()
        origins = {headers[name] for name in ("Origin", "Sec-WebSocket-Origin") if name in headers}
        only_looks = request.method in ("GET", "HEAD") and "Upgrade" not in headers  # a socket changes things
        return (
            host in {f"{name}:{self._app.port}" for name in _HOSTS}
            and origins <= {f"http://{host}"}
            and (only_looks or bool(origins))
        )

    def _has_key(self, request: HTTPServerRequest) -> bool:
        given = request.query_arguments.get("token", [])
        if len(given) == 1 and secrets.compare_digest(given[0], self._app.token.encode()):
            return True
        # Pages of this machine's other ports are the "same site": their requests bring the cookie, too.
        if request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            return False
        name = self._app.identity_provider.get_cookie_name(None)
        cookie = request.cookies.get(name)
        return bool(cookie and decode_signed_value(self._app.cookie_secret, name, cookie.value))


class _Refusal(RequestHandler):
    def prepare(self) -> None:
        self.set_status(403)
        self.set_header("Content-Type", "text/plain")
        self.finish(_REFUSED)


class PageServer(Voila):
    """Voila with the gate before it; the key is in the environment's `KEY`."""

    def init_settings(self) -> dict[str, Any]:
        """Voila's settings, with the key and a cookie that is good as long as the key is."""
        self.token = os.environ.pop(KEY)
        self.cookie_secret = hashlib.sha256(b"cookie " + self.token.encode()).digest()
        self.identity_provider_class = _Identity
        # A page that is closed ends its kernel by a request in which Voila forgets what Jupyter asks against forgeries
        # from other sites; of those the gate lets none pass.
        return super().init_settings() | {"disable_check_xsrf": True}

    def init_handlers(self) -> list:
        """Voila's handlers, the gate before them."""
        return [Rule(_Stranger(self), _Refusal), *super().init_handlers()]

    def _handle_signal_stop(self, sig: int, frame: object) -> None:
        if not hasattr(self, "ioloop"):  # Voila's handler needs it, and an error in a handler may be swallowed
            os._exit(128 + sig)
        super()._handle_signal_stop(sig, frame)


if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]))
    PageServer.launch_instance(sys.argv[2:])
