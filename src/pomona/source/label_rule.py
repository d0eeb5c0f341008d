"""Which label rule a run follows: the one it was given, or the one that its table is under."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pomona.errors import UsageError
from pomona.source.labels import LabelRule, check_label_rule, lasting_label_rule, parse_label_rule

__all__ = ["Labelling"]


@dataclass(frozen=True, slots=True)
class Labelling:
    """A label rule.

    Attributes:
        rule: itself.
        text: as `label` takes it, and as it is written down with the table; None if nothing was
            asked for and nothing is written down. Then rows that exist keep their labels.
        was_asked: whether this run was asked for it.
    """

    rule: LabelRule
    text: str | None
    was_asked: bool

    @classmethod
    def choose(cls, asked: str | None, recorded: Callable[[], str | None]) -> Labelling:
        """Choose the rule.

        Args:
            asked: the value of `label`, None if it was not given.
            recorded: gives the rule that is written down with the table.

        Raises:
            UsageError: the rule is none, or its file cannot be read.
        """
        if asked is not None:
            return cls(parse_label_rule(asked), lasting_label_rule(asked), was_asked=True)
        text = recorded()
        if text is None:
            return cls(parse_label_rule("parent"), None, was_asked=False)
        try:
            return cls(parse_label_rule(text), text, was_asked=False)
        except UsageError as error:
            raise UsageError(
                f"an earlier run labelled `table` by `label` {text}, which fails now "
                f"({error}): give another `label`"
            ) from error

    def checked(self, paths: Callable[[], Iterable[str]]) -> Labelling:
        """Make sure that a CSV file of labels and the images match, before any work.

        Args:
            paths: gives the paths of all images, as in the table.

        Raises:
            UsageError: a line stands for two images, or no line for one, although this run was
                asked for the file.
        """
        rule = check_label_rule(self.rule, paths, must_match=self.was_asked)
        return Labelling(rule, self.text, self.was_asked)
