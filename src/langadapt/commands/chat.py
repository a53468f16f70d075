"""`langadapt chat`: talks with a model, or with two at once. A thin layer over `langadapt.chat`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from langadapt.commands import base_option, explains_model, json_option, print_json, prompt_option
from langadapt.errors import UserError, counted, nearest

if TYPE_CHECKING:
    from rich.console import RenderableType

    from langadapt.chat import Chat, Reply

WIDE = 100  # columns of a terminal from which on two answers stand beside each other
HELP = """\
/system TEXT  give the model another system prompt; without TEXT, the one that its format has
/undo         take the last question and its answer back
/reset        forget what was said; the system prompt stays
/save FILE    add the conversation to a file of JSON lines, which a recipe can learn from
/help         show this
/quit         end (or Ctrl-D)
Ctrl-C stops an answer."""


@click.command()
@click.argument("models", metavar="MODEL [MODEL]", nargs=-1, required=True)
@click.option(
    "--once", metavar="TEXT", help="Ask this, print the answer and end; - reads the question from standard input."
)
@click.option("--system", "system_prompt", default="", metavar="TEXT", help="System prompt, in place of the format's.")
@prompt_option
@base_option
@click.option(
    "--max-new-tokens",
    type=click.IntRange(1),
    metavar="N",
    help="Tokens of an answer, at most; 512 without it.",
)
@click.option("--temperature", type=click.FloatRange(0), metavar="T", help="Sample; 0, as without it, is greedy.")
@click.option(
    "--top-p",
    type=click.FloatRange(0, 1, min_open=True),
    metavar="P",
    help="Sample from the likeliest tokens that together have this probability.",
)
@click.option("--seed", type=int, metavar="N", help="Sample the same answers again.")
@json_option
@explains_model
def chat(models: tuple[str, ...], once: str | None, as_json: bool, **options: Any) -> None:
    """Talk with a model, or with two side by side."""
    if len(models) > 2:
        raise click.UsageError("two models at most can be asked side by side; leave the others out")
    if as_json and once is None:
        raise click.UsageError("--json prints the answer to one question; give it with --once")
    question = sys.stdin.read().strip() if once == "-" else once
    if question is not None and not question.strip():
        raise click.UsageError(
            "--once: the question is empty; write it behind --once, or - and send it to standard input"
        )
    from langadapt.chat import Chat

    given = {name: value for name, value in options.items() if value is not None}
    chats = [Chat(model, **given) for model in models]
    if question is None:
        _Talk(chats).run()
    else:
        _ask_once(chats, question, as_json)


def _ask_once(chats: Sequence[Chat], question: str, as_json: bool) -> None:
    """The answers on standard output and nothing else there, but for the names when there are two."""
    answers = []
    for one in chats:
        if len(chats) > 1 and not as_json:
            click.echo(f"[{one.name}]")
        reply = one.ask(question, watch=lambda piece: None if as_json else click.echo(piece, nl=False))
        if not as_json:
            click.echo()
        if reply.finish == "stopped":  # a script must not take a part for an answer
            raise click.Abort
        answers.append({"model": one.name, "prompt": one.framing.name, **vars(reply)})
    if as_json:
        print_json({"question": question, "answers": answers})


class _Talk:
    """A conversation on the screen.

    Args:
        chats: with whom.
    """

    def __init__(self, chats: Sequence[Chat]):
        from rich.console import Console

        self.chats, self.console = chats, Console(highlight=False, markup=False)
        self.left_out = [0] * len(chats)
        self.commands: dict[str, Callable[[str], None]] = {
            "/system": self._system,
            "/undo": self._undo,
            "/reset": self._reset,
            "/save": self._save,
            "/help": lambda rest: self._say(HELP),
        }

    def run(self) -> None:
        """Questions and commands, until there are no more."""
        with suppress(ImportError):  # Windows has none
            import readline  # noqa: F401  gives input() its line editing and history

        for one in self.chats:
            self._say(f"{one.name}; prompt: {one.framing.why}")
        self._say("/help says what else there is")
        while (line := self._read()) not in (None, "/quit"):
            try:
                act = self._obey if line.startswith("/") else self._ask
                act(line)
            except UserError as error:
                self._say(str(error))
            except KeyboardInterrupt:
                self._say("stopped")

    def _read(self) -> str | None:
        """The next line that is not empty; None at the end."""
        while True:
            try:
                line = input("\n> " if sys.stdin.isatty() else "").strip()
            except EOFError:
                return None
            except KeyboardInterrupt:
                self._say("\n/quit or Ctrl-D ends")
                continue
            if line:
                return line

    def _obey(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        if word not in self.commands:
            raise UserError(f"there is no {word}; {nearest(word, [*self.commands, '/quit'])}")
        self.commands[word](rest.strip())

    def _say(self, message: str) -> None:
        self.console.print(message, style="dim", soft_wrap=True)

    def _system(self, rest: str) -> None:
        for one in self.chats:
            one.system_prompt = rest
        self._say("from the next question on" if rest else "the format's own again")

    def _undo(self, rest: str) -> None:
        taken = [one.undo() for one in self.chats]
        self._say("the last question is taken back" if any(taken) else "there is no question to take back")

    def _reset(self, rest: str) -> None:
        for one in self.chats:
            one.reset()
        self._say("forgotten")

    def _save(self, rest: str) -> None:
        if not rest:
            raise UserError("/save needs a file; write /save FILE")
        for one in self.chats:
            one.save(rest)
        self._say(f"added to {rest}")

    # --- questions -------------------------------------------------------------------------------------------------

    def _ask(self, question: str) -> None:
        beside = len(self.chats) > 1 and self.console.is_terminal and self.console.width >= WIDE
        replies = self._beside(question) if beside else self._below(question)
        for number, (one, reply) in enumerate(zip(self.chats, replies, strict=True)):
            self._remark(number, one, reply)

    def _below(self, question: str) -> list[Reply]:
        """Answers one after the other, word by word."""
        replies = []
        for one in self.chats:
            if len(self.chats) > 1:
                self.console.print(f"[{one.name}]", style="bold", soft_wrap=True)
            replies.append(one.ask(question, watch=lambda piece: self.console.out(piece, end="", highlight=False)))
            self.console.print()
        return replies

    def _beside(self, question: str) -> list[Reply]:
        """Answers in a column for each model, filled word by word; in the end they stay on the screen whole."""
        from rich.live import Live

        texts = [""] * len(self.chats)
        replies: list[Reply] = []
        # What is longer than the screen is cut as long as it is written.
        with Live(console=self.console, transient=True, vertical_overflow="ellipsis") as live:
            for number, one in enumerate(self.chats):

                def watch(piece: str, number: int = number) -> None:
                    texts[number] += piece
                    live.update(self._columns(texts))

                replies.append(one.ask(question, watch=watch))
        self.console.print(self._columns(texts))
        return replies

    def _columns(self, texts: Sequence[str]) -> RenderableType:
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, expand=True, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for one in self.chats:
            table.add_column(Text(one.name), ratio=1, overflow="fold")
        table.add_row(*(Text(text) for text in texts))
        return table

    def _remark(self, number: int, one: Chat, reply: Reply) -> None:
        """What an answer itself does not show."""
        said = {
            "end": "" if reply.text else "it ended without a word",
            "length": f"cut off after {counted(reply.tokens, 'token')}",
            "stopped": "stopped",
        }[reply.finish]
        forgotten = ""
        if reply.left_out > self.left_out[number]:
            forgotten = f"the first {reply.left_out} messages no longer fit into its {one.window:,} tokens"
        self.left_out[number] = reply.left_out
        if remarks := "; ".join(filter(None, [said, forgotten])):
            self._say(f"({one.name + ': ' if len(self.chats) > 1 else ''}{remarks})")
