"""Option: a word of the command line that one command understands, described without importing its parser."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class Option:
    """An option of a command, or an argument without a name in front of it.

    Parameters
    ----------
    help : str
        What it does, for the help.
    kind : {"text", "integer", "count", "path", "flag"}
        What its value is; a count is an integer above 0, and a flag has no value.
    default : object, optional
        Value if it is not given. The help shows a number or text.
    choices : tuple of str
        The only values, if not empty.
    value : str
        Name of the value in the help, such as ``FILE``.
    required : bool
        Whether it must be given.
    nargs : str, optional
        ``+`` for an argument that may be given several times.
    parsed_as : str, optional
        Name that the parser has for it: another one, or the key of the configuration that it stands for.
    """

    help: str
    kind: Literal["text", "integer", "count", "path", "flag"] = "text"
    default: Any = None
    choices: tuple[str, ...] = ()
    value: str = ""
    required: bool = False
    nargs: str | None = None
    parsed_as: str | None = None

    def keywords(self) -> dict[str, Any]:
        """Return the keyword arguments with which ``add_argument`` adds the option to a parser."""
        if self.kind == "flag":
            return {"action": "store_true", "help": self.help}
        default = Path(self.default) if self.kind == "path" and self.default else self.default
        words: dict[str, Any] = {"type": self._type(), "default": default, "help": self.help}
        words |= {"choices": list(self.choices)} if self.choices else {}
        words |= {"required": True} if self.required else {}
        return words

    def _type(self) -> Any:
        if self.kind == "count":
            from jsonargparse.typing import PositiveInt

            return PositiveInt
        return {"text": str, "integer": int, "path": Path}[self.kind]

    @property
    def shown_value(self) -> str:
        """What the help shows for the value; nothing for a flag."""
        if self.kind == "flag":
            return ""
        return "|".join(self.choices) or self.value or {"path": "PATH", "text": "TEXT"}.get(self.kind, "N")
