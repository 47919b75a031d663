"""``pointsman submit``: one job from the shell."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ops.cli.arguments import AsJson

__all__ = ["submit"]


async def submit(
    text: Annotated[
        str | None, typer.Argument(metavar="TEXT", help="The text to work on; - reads standard input.")
    ] = None,
    *,
    file: Annotated[
        list[Path] | None,
        typer.Option(
            "--file",
            "-f",
            metavar="FILE",
            help="Read the text from this file: text, Markdown, HTML, PDF or DOCX. Several are a section each, unless"
            " --split or --kind says otherwise.",
        ),
    ] = None,
    item: Annotated[
        list[str] | None,
        typer.Option("--item", metavar="TEXT", help="One of several texts, instead of TEXT. May be repeated."),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="single, sections, vote or a workflow. Follows from --item, --file, --split and -n where left out.",
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            metavar="HOW",
            help="How a text is cut into sections: headings, numbered, pages, paragraphs, sentences, lines, tokens,"
            " rows, json, files or plan.",
        ),
    ] = None,
    split_option: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="An option of the split. May be repeated.")
    ] = None,
    join: Annotated[
        str | None,
        typer.Option(metavar="HOW", help="How the parts become one output: concatenate, majority, ..."),
    ] = None,
    join_option: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="An option of the join. May be repeated.")
    ] = None,
    join_model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Who answers what the join asks: a model, or route:NAME.")
    ] = None,
    each: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Makes each section a job of its own, with this field: --each kind=vote --each n=5. May be repeated.",
        ),
    ] = None,
    n: Annotated[int | None, typer.Option("--n", "-n", metavar="N", help="How many votes.")] = None,
    prefer: Annotated[
        str | None,
        typer.Option(metavar="WHAT", help="latency asks for all votes at once; cost for no more than can decide."),
    ] = None,
    confidence: Annotated[
        float | None, typer.Option(metavar="SHARE", help="End a vote once it is so sure, such as 0.95.")
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", help="The instruction, instead of the route's; file:NAME is a prompt of the configuration."
        ),
    ] = None,
    route: Annotated[
        str | None, typer.Option(metavar="NAME", help="The route, instead of classifying the text.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", metavar="NAME", help="A model, or route:NAME; auto, the default, has it chosen."),
    ] = None,
    strategy: Annotated[
        str | None, typer.Option(metavar="NAME", help="How a model is chosen, instead of the route's way.")
    ] = None,
    policy: Annotated[
        str | None, typer.Option(metavar="WHEN", help="When parts fail: fail, the default, partial or quorum.")
    ] = None,
    quorum: Annotated[
        int | None, typer.Option(metavar="N", help="Parts that must succeed, with --policy quorum.")
    ] = None,
    priority: Annotated[str | None, typer.Option(metavar="RANK", help="high, normal, the default, or low.")] = None,
    deadline: Annotated[float | None, typer.Option(metavar="SECONDS", help="Seconds until the job expires.")] = None,
    budget_usd: Annotated[
        float | None, typer.Option("--budget", metavar="USD", help="What it may cost in all.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(metavar="KEY", help="What strategies pin on that keep equal keys together.")
    ] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(metavar="KEY", help="Submitting again with the same key gives the same job.")
    ] = None,
    label: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="May be repeated.")] = None,
    metadata: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="A JSON value counts as such. May be repeated.")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(metavar="N", help="Tokens of an answer at most.")] = None,
    temperature: Annotated[float | None, typer.Option(metavar="T", help="From 0 to 2.")] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="For models that can repeat themselves.")] = None,
    field: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Any other field of a job; a JSON value counts as such:"
            ' --field \'variety={"models": ["fast", "careful"]}\'. May be repeated.',
        ),
    ] = None,
    job: Annotated[
        Path | None,
        typer.Option(
            "--job",
            metavar="FILE",
            help="Begin with this job, a JSON object; - reads standard input. What options say goes before it.",
        ),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Wait for the end, and print the output.")] = False,
    timeout: Annotated[
        float | None, typer.Option(min=0, metavar="SECONDS", help="Seconds to wait; the job goes on after.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Submit a job; print its id or, with --wait, its output.

    The text comes from the argument, from --file, or from a pipe. Which model works on it is decided by its route, and
    the route by what the text says, unless you name one. The exit code tells how the job ended.

        pointsman submit "Why was I charged twice?" --wait
        cat contract.md | pointsman submit --split headings --prompt "Name the risks." -w
        pointsman submit --file contract.pdf --split pages --prompt "Name the risks." -w
        pointsman submit "Is this spam? ..." -n 5 --join majority -w
        pointsman submit --item "first text" --item "second text" --prompt Summarise. -w
        pointsman submit --file terms.md --split headings --each kind=vote --each n=5 -w
        pointsman submit --job job.json --model careful -w
    """
    from ops.cli.environment import open_producer
    from ops.cli.inputs import pairs, read_documents, read_job, read_text, values
    from ops.cli.render import note, print_json
    from ops.cli.waiting import conclude, wait_for

    begun = {**(read_job(job) if job is not None else {}), **values("field", field or ())}
    files = read_documents(text, file or ())
    brought = item or any(name in begun for name in ("text", "messages", "items", "files"))
    cut = item or split or each or begun.keys() & {"items", "split", "each"} or (files is not None and len(files) > 1)
    wanted: dict[str, Any] = {
        "text": None if files else read_text("-" if file else text, None, needed=not brought),
        "files": files, "items": item or None,
        "kind": kind or begun.get("kind") or ("vote" if n is not None else "sections" if cut else None),
        "split": split, "split_options": values("split-option", split_option or ()) or None,
        "join": join, "join_options": values("join-option", join_option or ()) or None, "join_model": join_model,
        "each": values("each", each) if each else None, "n": n, "prefer": prefer, "confidence": confidence,
        "prompt": prompt, "route": route, "model": model, "strategy": strategy,
        "policy": policy, "quorum": quorum, "priority": priority, "deadline": deadline, "budget_usd": budget_usd,
        "key": key, "idempotency_key": idempotency_key,
        "labels": pairs("label", label or ()) or None, "metadata": values("metadata", metadata or ()) or None,
        "max_tokens": max_tokens, "temperature": temperature, "seed": seed,
    }  # fmt: skip
    async with open_producer() as producer:
        accepted = await producer.submit(begun | {name: value for name, value in wanted.items() if value is not None})
        if not accepted.new:
            note(f"this idempotency key has a job already: {accepted.id}")
        if wait or timeout is not None:
            result = await wait_for(producer, accepted.id, timeout=timeout)
            return conclude(result, as_json=as_json)
    if as_json:
        print_json({"id": accepted.id, "state": accepted.state, "new": accepted.new})
    else:
        print(accepted.id)
    return 0
