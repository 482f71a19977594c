"""The terminal that the commands print to."""

from typing import TYPE_CHECKING

from submillion.errors import escaped_lines

if TYPE_CHECKING:
    from rich.console import Console


def terminal(quiet: bool = False, stderr: bool = False) -> "Console":
    """Returns a console that shows control characters escaped: what a file holds may be printed on it as it is.

    quiet: print nothing. stderr: print to standard error.
    """
    from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook, RenderResult
    from rich.segment import Segment

    class Escaped:
        def __init__(self, content: ConsoleRenderable) -> None:
            self.content = content

        def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
            for part in console.render(self.content, options):
                yield part if part.control else Segment(escaped_lines(part.text), part.style)

    class EscapesAll(RenderHook):
        def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
            return [Escaped(content) for content in renderables]

    console = Console(quiet=quiet, stderr=stderr)
    console.push_render_hook(EscapesAll())
    return console
