"""What a run came to, as text that a person can read, and as a picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, ImageDraw, ImageFont

from client.history import DONE, OUTCOMES, REFUSED, UNKNOWN, WRITES, Record
from tests.faults.chaos.run import Happened, Outcome, Pause

BUCKET_US = 500_000
WIDTH, HEIGHT = 1280, 480
LEFT, RIGHT, TOP, BOTTOM = 70, 24, 62, 44
LANE_PX = 17
GAP_PX = 6
WORDS_MAX = 60
# Okabe and Ito's palette: told apart by everybody.
COLOURS = {DONE: "#009E73", REFUSED: "#E69F00", UNKNOWN: "#D55E00"}
FAULT_COLOURS = {
    "kill": "#D55E00", "freeze": "#0072B2", "partition": "#CC79A7", "bad links": "#56B4E9", "clock": "#F0E442",
    "locks flushed": "#E69F00", "lying locks": "#B57B00", "disk full": "#555555", "damaged file": "#000000",
    "provider killed": "#AA3377", "provider trouble": "#4477AA",
    "cable pulled": "#CC79A7", "one-way route": "#882255",
}  # fmt: skip
VERDICTS = {
    "kept": "every promise was kept",
    "broken": "A PROMISE WAS BROKEN",
    "undecided": "no fault was found, but some seats' histories are too long to be judged",
}


def text(outcome: Outcome) -> str:
    """Return the report of one run."""
    judgement, happened = outcome.judgement, outcome.happened
    lines = [f"scenario {outcome.scenario.name}, seed {outcome.seed}, {outcome.seconds:.0f} s: {outcome.scenario.what}", ""]
    kinds = Counter(one.kind for one in happened)
    lines.append(f"faults injected: {len(happened)}: " + ", ".join(f"{count} × {kind}" for kind, count in sorted(kinds.items())))
    lines += [f"left out: {reason}" for reason in outcome.left_out]
    lines += [f"flipped bits found by the check of the ledgers: {what}" for what in outcome.damage_found]
    lines += ["", f"{'operation':<12}{'done':>9}{'refused':>9}{'unknown':>9}"]
    for kind in dict.fromkeys(kind for kind, _ in sorted(judgement.counts)):
        counts = "".join(f"{judgement.counts.get((kind, answer), 0):>9,}" for answer in OUTCOMES)
        lines.append(f"{kind:<12}{counts}")
    codes = Counter(one.answer.code for one in outcome.history.records if one.answer.code)
    lines.append("answers other than done: " + ", ".join(f"{count} × {code}" for code, count in codes.most_common()))
    lines += [
        "",
        f"seats judged: {judgement.seats}; of unknown outcome in the end: {outcome.unknown_left}",
        *[f"longest time in which {paused(one, outcome)}" for one in outcome.pauses],
        f"after everything was healed a sale was done within {outcome.resumed_s:.1f} s",
        "",
        f"verdict: {VERDICTS[outcome.verdict]}",
    ]
    lines += [f"  - {fault}" for fault in outcome.faults[:40]]
    if len(outcome.faults) > 40:
        lines.append(f"  - and {len(outcome.faults) - 40} more")
    return "\n".join(lines)


def paused(pause: Pause, outcome: Outcome) -> str:
    """Return an operator's longest pause in words."""
    start = min((one.call_us for one in outcome.history.records), default=0)
    then = "; ".join(pause.during) or "nothing was being done to the cluster"
    return f"{pause.operator} sold nothing: {pause.lasted_us / 1e6:.1f} s, from second {(pause.at_us - start) / 1e6:.0f} on ({then})"


def document(outcome: Outcome) -> dict[str, Any]:
    """Return the report as data."""
    counts = outcome.judgement.counts
    return {
        "scenario": outcome.scenario.name,
        "seed": outcome.seed,
        "seconds": outcome.seconds,
        "verdict": outcome.verdict,
        "faults_injected": dict(Counter(one.kind for one in outcome.happened)),
        "left_out": outcome.left_out,
        "operations": {f"{kind} {answer}": count for (kind, answer), count in sorted(counts.items())},
        "unknown_in_the_end": outcome.unknown_left,
        "longest_pause_s": {one.operator: round(one.lasted_us / 1e6, 2) for one in outcome.pauses},
        "resumed_s": round(outcome.resumed_s, 2),
        "violations": outcome.faults,
        "undecided": outcome.judgement.undecided,
        "history": str(outcome.file),
    }


# --- the picture -----------------------------------------------------------------------------------------------------


def chart(outcome: Outcome, path: Path) -> None:
    """Write a PNG: writes a second over time by their outcome, and below them every fault from its beginning to its end."""
    records = [one for one in outcome.history.records if one.operation.kind in WRITES and one.return_us is not None]
    start = min((one.call_us for one in outcome.history.records), default=0)
    end = max((one.return_us or one.call_us for one in outcome.history.records), default=1)
    font, small = ImageFont.load_default(15), ImageFont.load_default(11)
    span = end - start
    bars = [_bar(one, start, span, small) for one in outcome.happened]
    lanes = _lanes(bars)
    height = max(HEIGHT, 430 + LANE_PX * (1 + max(lanes, default=0)))
    picture = Image.new("RGB", (WIDTH, height), "white")
    draw = ImageDraw.Draw(picture)
    title = f"holdfast chaos {outcome.scenario.name} --seed {outcome.seed}: {VERDICTS[outcome.verdict]}"
    draw.text((LEFT, 14), title, fill="black", font=font)
    _legend(draw, small)
    axis = 380
    buckets = _buckets(records, start, end)
    top = max([sum(bucket.values()) for bucket in buckets] + [1])
    _grid(draw, small, axis, top, span)
    width = (WIDTH - LEFT - RIGHT) / len(buckets)
    for place, bucket in enumerate(buckets):
        base = float(axis)
        for answer in OUTCOMES:
            size = bucket[answer] / top * (axis - TOP)
            left = LEFT + place * width
            if size:
                draw.rectangle((left, base - size, left + max(width - 1, 0.5), base), fill=COLOURS[answer])
            base -= size
    for lane, bar in zip(lanes, bars, strict=True):
        y = axis + 30 + lane * LANE_PX
        draw.rectangle((bar.left, y, bar.right, y + 4), fill=FAULT_COLOURS.get(bar.kind, "#888888"))
        draw.text((bar.words_left, y + 4), bar.words, fill="#333333", font=small)
    picture.save(path, optimize=True)


def _legend(draw: ImageDraw.ImageDraw, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> None:
    left = LEFT
    for answer in OUTCOMES:
        draw.rectangle((left, 41, left + 10, 51), fill=COLOURS[answer])
        draw.text((left + 15, 39), answer, fill="black", font=font)
        left += 90
    words = "writes a second (holds, confirmations, releases, cancellations); below: what was done to the cluster"
    draw.text((left, 39), words, fill="#555555", font=font)


def _grid(draw: ImageDraw.ImageDraw, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, axis: int, top: int, span_us: int) -> None:
    for part in range(5):
        y = axis - part * (axis - TOP) / 4
        draw.line((LEFT, y, WIDTH - RIGHT, y), fill="#dddddd")
        draw.text((8, y - 7), f"{top * part / 4 / (BUCKET_US / 1e6):.0f}/s", fill="#555555", font=font)
    seconds = span_us / 1e6
    step = next((step for step in (1, 2, 5, 10, 30, 60, 300, 600) if seconds / step <= 16), 1800)
    for second in range(0, int(seconds) + 1, step):
        x = LEFT + second / seconds * (WIDTH - LEFT - RIGHT)
        draw.line((x, axis, x, axis + 4), fill="#555555")
        draw.text((x - 6, axis + 6), f"{second} s", fill="#555555", font=font)


def _buckets(records: Iterable[Record], start: int, end: int) -> list[Counter[str]]:
    found: list[Counter[str]] = [Counter() for _ in range((end - start) // BUCKET_US + 1)]
    for record in records:
        if record.return_us is not None:
            found[(record.return_us - start) // BUCKET_US][record.answer.outcome] += 1
    return found


class _Bar(NamedTuple):
    """One fault in the picture: a bar, and under it what it was. Places in pixels from the left."""

    kind: str
    left: float
    right: float
    words: str
    words_left: float
    words_right: float


def _bar(one: Happened, start: int, span_us: int, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> _Bar:
    scale = (WIDTH - LEFT - RIGHT) / span_us
    left = LEFT + (one.at_us - start) * scale
    words = one.what if len(one.what) <= WORDS_MAX else f"{one.what[: WORDS_MAX - 1].rstrip()}…"
    width = font.getlength(words)
    words_left = max(LEFT, min(left, WIDTH - RIGHT - width))
    return _Bar(one.kind, left, max(LEFT + (one.until_us - start) * scale, left + 3), words, words_left, words_left + width)


def _lanes(bars: Sequence[_Bar]) -> list[int]:
    """Return a lane for each fault, so that neither bars nor their words lie over one another."""
    ends: list[float] = []
    lanes = [0] * len(bars)
    for place in sorted(range(len(bars)), key=lambda place: bars[place].left):
        bar = bars[place]
        begins = min(bar.left, bar.words_left)
        lane = next((lane for lane, end in enumerate(ends) if end + GAP_PX <= begins), len(ends))
        ends[lane : lane + 1] = [max(bar.right, bar.words_right)]
        lanes[place] = lane
    return lanes
