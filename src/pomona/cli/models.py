"""`pomona models`: the networks that Pomona knows by name."""

from __future__ import annotations

import json

import click

from pomona.cli.console import AS_JSON, results_follow
from pomona.cli.options import TRUST
from pomona.cli.paths import as_path
from pomona.cli.sections import SectionedCommand

__all__ = ["models"]


@click.command(
    cls=SectionedCommand,
    short_help="List the known networks, or show one of them.",
    epilog="Example: pomona models mobilenet_v2",
)
@click.argument("model", required=False, type=as_path)
@TRUST
@AS_JSON
def models(model: str | None, *, trust: bool, as_json: bool) -> None:
    """List the known networks, or show one of them.

    With MODEL, the command shows layers, shapes, parameter counts and preprocessing. MODEL is a
    name or the file of a network. The names of the layers are values for --layer.
    """
    from pomona.building.build import describe_network, is_network_file
    from pomona.cli.render import show_model, show_models
    from pomona.encoder.networks import CARDS, find_card

    results_follow()
    if model is None:
        if as_json:
            click.echo(json.dumps([card.to_json() for card in CARDS.values()]))
        else:
            show_models(CARDS.values())
        return
    card = None if is_network_file(model) else find_card(model)
    network = describe_network(model, trust=trust)
    if as_json:
        click.echo(json.dumps({**(card.to_json() if card else {"name": model}), **network}))
    else:
        show_model(model, card, network)
