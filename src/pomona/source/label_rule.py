"""The label rule of a run: its own, or the one recorded with the table."""

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
        rule: the rule.
        text: the value of `label`, as it is recorded with the table. None if neither the run nor
            the table has one: then existing rows keep their labels.
        was_asked: whether `label` was given for this run.
    """

    rule: LabelRule
    text: str | None
    was_asked: bool

    @classmethod
    def choose(cls, asked: str | None, recorded: Callable[[], str | None]) -> Labelling:
        """Choose the rule.

        Args:
            asked: the value of `label`, None if it was not given.
            recorded: returns the rule that is recorded with the table.

        Raises:
            UsageError: the rule is not valid, or its file cannot be read.
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
        """Check before any work that a CSV file of labels and the images match.

        Args:
            paths: returns the paths of all images, as in the table.

        Raises:
            UsageError: a line matches two images; or `label` was given for this run, and no line
                matches an image.
        """
        rule = check_label_rule(self.rule, paths, must_match=self.was_asked)
        return Labelling(rule, self.text, self.was_asked)
