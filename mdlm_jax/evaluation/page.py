"""report/index.html: what `findings.collect` has found of a run, for a person. A pure function; no jax."""

import shlex
from collections.abc import Mapping
from typing import Any

from mdlm_jax.evaluation import page_measures
from mdlm_jax.evaluation.html_parts import (
    about,
    checklist,
    count,
    ends,
    exact,
    facts,
    figure,
    glossary,
    num,
    page,
    pair,
    power,
    quoted,
    said,
    section,
    table,
    term,
)
from mdlm_jax.evaluation.svg import escaped

Findings = Mapping[str, Any]
SHOWN, LINES = 560, 14  # characters and lines of the sample on the first screen
PROSE = 80  # characters from which on a paragraph is no heading, and may begin with a large letter
SIMPLE = {
    name: f"{told}, the best of the simple models"
    for name, told in {"ngram_5": "counting runs of five bytes", "bz2": "bzip2", "xz": "xz"}.items()
}
ABSENT = {"twin": "an autoregressive twin", "human": "readers", "samples": "texts", "memory": "copying"}
KINDS = {
    "bound": "at most",
    "exact": "exactly",
    "left_to_right": "from left to right, exactly",
    "confidence_order": "surest first, exactly",
}


def kind_of(run: Mapping[str, Any]) -> str:
    """What the model is, in words."""
    return "an autoregressive model" if run["causal"] else "a masked diffusion model"


def in_words(verdict: Mapping[str, Any]) -> str:
    """What the held-out figure means, as HTML."""
    choices = verdict["choices"]
    there = [value for value in choices.values() if value]
    apart = len(set(there))  # figures that differ should look as if they did
    digits = next((n for n in (1, 2, 3) if len({f"{value:.{n}f}" for value in there}) == apart), 1)
    told = (
        "Guessing the next byte (a letter, a space, a mark) of chapters it never saw, it is as unsure as "
        f"somebody who must choose blindly among {num(choices['model'], digits)} equally likely ones."
    )
    if choices["ngram_5"]:
        told += f" Counting runs of five bytes leaves {num(choices['ngram_5'], digits)}"
        told += f", the autoregressive twin {num(choices['twin'], digits)}." if choices["twin"] else "."
    return told


def compared(share: float | None, other: str) -> str:
    """A model's bits beside another's: a share above 0 is fewer bits; HTML."""
    if share is None:
        return ""
    shown = exact(share, f"{100 * abs(share):.1f}\u00a0%")
    return f"{shown} {'fewer' if share > 0 else 'more'} bits than {other}"


def headline(found: Findings) -> str:
    """The first screen."""
    run, verdict, evaluation = found["run"], found["verdict"], found["evaluation"]
    only = "this book" if run["books"] == 1 else "these books"
    rows = [("Model", f"{kind_of(run)} with {count(run['parameters'])} weights, trained on {only} alone")]
    goes_on = typed(shlex.join(["python", "launch.py", "--workdir", run["path"]]))
    hero = f'<p class="absent">This run has no figures yet: its training is {escaped(run["state"])}.'
    hero += f" It goes on with</p><pre>{goes_on}</pre>"
    if verdict:
        bound = verdict["kind"] == "bound"
        interval = ends(verdict["interval"]) + " (95 %)" if bound else "known exactly"
        most = "at most; " if bound else ""
        hero = (
            f'<p class="hero">{num(verdict["bits_per_byte"])}<small>{term("bits per byte")} of '
            f"unseen chapters ({most}lower is better); {interval}</small></p><p>{in_words(verdict)}</p>"
        )
        both = [
            compared(verdict["better_than_simple"], SIMPLE.get(verdict["best_simple"], "")),
            compared(verdict["better_than_twin"], "its autoregressive twin"),
        ]
        rows.append(("Beside others", "; ".join(filter(None, both))))
    if "style" in evaluation:
        rows.append(("Style", page_measures.style_in_words(evaluation["style"])))
    if "memory" in evaluation:
        rows.append(("Copying", page_measures.memory_in_words(evaluation["memory"])))
    if "human" in evaluation:
        rows.append(("Readers", page_measures.human_in_words(evaluation["human"])))
    left = hero + facts(rows)
    texts = first_texts(found)
    right = f'<p class="absent">No text of it yet: {EVALUATE.format(where="this run")}</p>' * bool(verdict)
    if texts:
        text = "\n".join(texts[0].strip().split("\n")[:LINES])[:SHOWN]
        cut = texts[0].strip() if text == texts[0].strip() else text.rsplit(" ", 1)[0] + " …"
        shown = quoted(cut.strip(), run["language"])
        prose = cut.strip()[:1].isupper() and len(cut.strip().partition("\n")[0]) > PROSE
        shown = f'<div class="initial">{shown}</div>' if prose else shown
        right = f'<p class="origin">It wrote, unedited:</p>{shown}'
    right += checklist(found["checks"])
    return f'<div class="verdict"><div>{left}</div><div>{right}</div></div>'


EVALUATE = "python -m mdlm_jax.evaluate measures {where}, with samples, style and copying."


def first_texts(found: Findings) -> list[str]:
    """Texts of the weights that the run gives, or of the last that wrote one in training."""
    samples = found["evaluation"].get("samples")
    last = [x["text"] for x in found["written"][-1:]]
    return [*samples["texts"], *samples["stages"][-1]["texts"]] if samples else last


def learned(found: Findings, svg: Mapping[str, str]) -> str:
    """Learning curves by stage, and the transitions between the stages."""
    run, told = found["run"], found["curves"]["transitions"]
    names = [stage["name"] for stage in run["stages"]]
    rows: list[list[str]] = []
    for x in told:
        if "bits_per_byte_before" in x:
            settled = x.get("bits_per_byte_settled")
            cells = [num(x["bits_per_byte_before"]), num(x.get("bits_per_byte_after"))]
            old = next((row for row in rows if row[0] == said(names[x["stage"]])), None)
            if old:  # the same transition, looked at again
                old[-1] = num(settled)
            else:
                rows.append([said(names[x["stage"]]), *cells, num(settled)])
    head = ["into", "before", "after", term("settled")]
    caption = (
        f"Each line, in {term('nats per token')}, falls while the model practises. The stages hide "
        "different shares of the text, so that their training lines cannot be compared with one another; the "
        "held-out line can. A training line that falls while the held-out one rises means learning by heart."
    )
    return section(
        "learning",
        "How it learned",
        "<p>The book comes in stages: first its plainest and most central sentences, then pairs of sentences "
        "that belong together, then whole paragraphs.</p>" * (len(names) > 1),
        figure(svg.get("learning"), caption, "single"),
        table("Held-out bits per byte at the border of two stages", head, rows) if rows else "",
    )


def likelihood(found: Findings, svg: Mapping[str, str]) -> str:
    """l(t), the simpler models, and every figure of the evaluation."""
    causal = found["run"]["causal"]
    figures = found["evaluation"].get("likelihood", {}).get("figures", [])
    head = ["checkpoint", term("weights"), term("chapters"), "figure", "bits per byte", term("95 %")]
    head += [term("perplexity", "per token"), "per word"]
    rows = [
        [
            said(x["checkpoint"]),
            {"ema": "averaged", "params": "last"}[x["weights"]],
            said(x["split"]),
            KINDS[x["kind"]],
            num(x["bits_per_byte"]),
            ends(x["interval_95"]["bits_per_byte"]) if x["bits_per_byte_se"] else "–",
            num(x["token_perplexity"], 1),
            about(x["word_perplexity"]),
        ]
        for x in sorted(figures, key=lambda x: x["split"] == "test")
    ]
    noise = (
        "What a hidden word-piece costs when this share of the text around it is hidden too. With little "
        "hidden the model only fills a gap; with all hidden it must invent. The mean of the curve, turned "
        "into bits per byte, is the figure above."
    )
    others = (
        "A byte takes eight bits in a file. The fewer bits a model needs for a byte of unseen chapters, "
        "the better it foresees them."
    )
    if found["verdict"].get("bz2") is not None:
        others += " Two of the others are programs that pack files, bzip2 and xz, which were given the "
        others += "training chapters first."
    told = (
        "<p>The figure of a diffusion model is a bound: the true cost is at most that, since it can be "
        "reckoned in any order of writing and the bound is the mean over all of them. Reading from left to "
        "right is one order, which can be reckoned exactly; it may cost more or less than the mean. The "
        "interval of a bound is that of what happened to be hidden, not of the choice of the chapters.</p>"
    )
    return section(
        "likelihood",
        "How well it foresees unseen chapters",
        "" if causal or not found["verdict"] else told,
        pair(figure(svg.get("comparison"), others), figure(svg.get("noise"), noise)),
        table("Every checkpoint; the last columns are perplexities", head, rows) if rows else "",
    )


def twin(found: Findings) -> str:
    """The autoregressive twin."""
    beside = found["evaluation"].get("twin")
    if not beside or not found["verdict"]:
        return ""
    report = found["report"]
    rows = [
        [
            "bits per byte, test chapters",
            num(found["verdict"]["bits_per_byte"]),
            num(beside["test"]["bits_per_byte"]),
        ],
        ["tokens trained on", count(report.get("training_tokens")), count(beside["training_tokens"])],
        ["training compute, FLOPs", power(report.get("training_flops")), power(beside["training_flops"])],
        ["weights", count(found["run"]["parameters"]), count(beside["parameters"])],
    ]
    return section(
        "twin",
        "Beside its twin",
        "<p>The twin reads and writes from left to right as most language models do; the same code "
        "trained it on the same chapters. Each was trained by a plan of its own, so that the lines below the "
        "first say what they cost.</p>",
        table("This model and its autoregressive twin", ["", "this model", said(beside["name"])], rows),
    )


def spent(found: Findings, svg: Mapping[str, str]) -> str:
    """Tokens, FLOPs, seconds, and the critical compute."""
    own, errors = found["cost"], [x["bits_per_byte_se"] for x in found["curves"]["held_out"]]
    if not own:
        return ""
    rows = [
        [said(x["name"]), count(x["steps"]), num(x["epochs"], 1), count(x["tokens"]), power(x["flops"]),
         count(x["seconds"])]
        for x in own["stages"]
    ]  # fmt: skip
    rows.append(["all", "", "", count(own["tokens"]), power(own["flops"]), count(own["seconds"])])
    critical = own["critical"]
    told = ""
    if not found["run"]["causal"]:  # the law is about masked diffusion
        told = (
            "<p>By a law of Prabhudesai and others (2025) a diffusion model overtakes its autoregressive "
            f"twin when the same text has been read often enough: at {power(critical['flops'])} FLOPs for a "
            f"book of {count(critical['unique_tokens'])} tokens. This run spent {about(critical['ratio'])} "
            "times that.</p>"
        )
    if told and critical["extrapolated"]:
        told += (
            '<p class="note">The law was fitted on texts of twenty-five to a hundred million tokens. For '
            "this one it is an extrapolation, and no promise.</p>"
        )
    caption = "Held-out bits per byte against the compute spent"
    caption += ", with the critical compute as an upright line" if told else ""
    caption += "; bars are one standard error." if any(errors) else "."
    return section(
        "cost",
        "What it cost",
        told,
        figure(svg.get("cost"), caption, "single"),
        table(
            "Training; the clock goes on while something is compiled",
            ["stage", "steps", "readings", "tokens", term("FLOPs"), "seconds in steps"],
            rows,
        ),
    )


def typed(command: str) -> str:
    """A command whose words stay whole where a line breaks, as HTML."""
    return " ".join(f"<span>{escaped(word)}</span>" for word in command.split(" "))


def again(found: Findings) -> str:
    """How to reproduce all of it."""
    run, made = found["run"], found["evaluation"]
    made = made if "preset" in made else {}  # readers may have answered before any evaluation
    commands = [run["command"]] if run["command"] else []
    if made:
        options = [word for name, value in made.get("options", {}).items() for word in (f"--{name}", value)]
        command = ["python", "-m", "mdlm_jax.evaluate", "--workdir", run["path"], *options]
        commands.append(shlex.join(command))
    environments = [run["environment"], made.get("environment")]
    lines = []
    for name, told in zip(("training", "evaluation"), environments, strict=True):
        if told:
            devices = (" ".join(dict.fromkeys(device.split())) for device in told["devices"])  # "cpu cpu"
            versions = ", ".join(f"{k} {v}" for k, v in sorted(told["versions"].items()))
            commit = f", commit {told['commit']}" if told.get("commit") else ""
            lines.append((name, said(f"Python {told['python']}{commit}, {versions}; {', '.join(devices)}")))
    if made:
        hashes = ", ".join(f"{name} {digest}" for name, digest in made["checkpoints"].items())
        lines.append(("weights", said(hashes)))
    seeds = f"training {count(run['seed'])}, split of the chapters {count(run['split_seed'])}"
    seeds += f", evaluation {count(made['seed'])}" if made else ""
    absent = "".join(
        f"<li>{escaped(ABSENT.get(name, name))}: {said(why)}</li>" for name, why in found["absent"].items()
    )
    return section(
        "again",
        "How to do it again",
        f"<pre>{chr(10).join(map(typed, commands))}</pre>" if commands else "",
        facts([("seeds", seeds), *lines]),
        f'<p class="note">Not in this report:</p><ul class="note">{absent}</ul>' if absent else "",
        '<p class="note">Every number of this page is in report/index.json with all its digits, every chart '
        "is a file of its own beside it, and nothing on it was fetched from anywhere.</p>",
    )


def html(found: Findings, svg: Mapping[str, str]) -> str:
    """The page: `svg` are the `drawings` of `found`."""
    run = found["run"]
    books = "one book" if run["books"] == 1 else f"{count(run['books'])} books"
    lead = (
        f"{kind_of(run).capitalize()} that learned to write from {books}, and what it is worth. "
        f"{count(run['held_out'])} of {count(run['all_chapters'])} {escaped(run['divisions'])} were kept "
        "from it; it is judged by those."
    )
    sections = {
        "learning": ("learning", learned(found, svg)),
        "likelihood": ("foresight", likelihood(found, svg)),
        "twin": ("twin", twin(found)),
        "style": ("style", page_measures.style(found, svg)),
        "memory": ("copies", page_measures.memory(found, svg)),
        "samples": ("samples", page_measures.samples(found)),
        "human": ("readers", page_measures.human(found)),
        "cost": ("cost", spent(found, svg)),
        "again": ("again", again(found)),
        "words": ("words", glossary()),
    }
    links = "".join(f'<li><a href="#{n}">{name}</a></li>' for n, (name, made) in sections.items() if made)
    more = ""
    if "preset" not in found["evaluation"] and found["verdict"]:
        more = f'<p class="note">{escaped(EVALUATE.format(where="the rest"))}</p>'
    top = [
        f'<h1>{said(run["book"])}</h1><p class="lead">{lead}</p>',
        headline(found),
        f'{more}<nav aria-label="Sections"><ul>{links}</ul></nav>',
    ]
    return page(
        f"{run['book']}: a report", "A report on a model", [*top, *(made for _, made in sections.values())]
    )
