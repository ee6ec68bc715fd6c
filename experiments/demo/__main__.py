"""Open a page to try the method on two pictures, your own or examples that are included.

    pip install -e '.[demo]'
    python -m experiments.demo

The page is served on this machine until you press Ctrl-C. Pictures stay on it.
"""

import os
import socket
from collections.abc import Sequence
from contextlib import closing

from experiments.command_line import parser
from injectfusion.backbones.shipped_networks import SHIPPED
from injectfusion.core.errors import UserError, one_line_errors
from injectfusion.core.progress import Progress


def main(arguments: Sequence[str] | None = None) -> None:
    command = parser("demo", __doc__)
    default = "(default: %(default)s)"
    command.add_argument("--host", default="127.0.0.1", help=f"address to serve on; 0.0.0.0: all networks {default}")
    command.add_argument("--port", type=int, default=7860, help=f"port to serve on {default}")
    device = f"of the networks: auto (a GPU if there is one), cpu, cuda, ... {default}"
    command.add_argument("--device", default="auto", help=device)
    with one_line_errors():
        options = command.parse_args(arguments)
        _require_free(options.host, options.port)
        os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # nothing is sent anywhere
        with Progress() as progress, progress.stage("loading the networks"):
            try:
                import gradio  # noqa: F401 (its absence is reported here)
            except ImportError as error:
                raise UserError("the demo needs Gradio: pip install -e '.[demo]'") from error
            from experiments.demo.editor import Editor
            from experiments.demo.layout import launch, page

            shown = page({network: Editor(network, options.device) for network in SHIPPED})
        launch(shown, options.host, options.port)


def _require_free(host: str, port: int) -> None:
    """UserError: the address is not one of this machine, or the port is taken or not allowed."""
    if not 1 <= port <= 65535:
        raise UserError(f"--port {port}: it must lie in [1, 65535]")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with closing(socket.socket(family, kind, protocol)) as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind(address)
    except OSError as error:
        raise UserError(f"cannot serve on {host}:{port} ({error.strerror}): choose another --host or --port") from error


if __name__ == "__main__":
    # PyTorch's threads then sleep instead of spinning when they wait for each other: the browser needs the cores too.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    main()
