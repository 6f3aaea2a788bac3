"""Convert the output of the benches to the rows of docs/measurements.md."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

HEAD: Final = "| date | machine | command | what | ours | the alternative | ratio |"
RULE: Final = "|---|---|---|---|---|---|---|"
EIGHT_STREAMS: Final = ("final_lag_mean_s", "ttft_mean_s")
Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement: ours, the alternative, and the ratio with its target."""

    what: str
    ours: str
    alternative: str = ""
    ratio: str = ""


def encode(f: Figures) -> list[Row]:
    """Return the rows of `bench.encode`."""
    rows = [
        Row(
            f"encode {s} s",
            seconds(f["seconds"][s]),
            f"transformers, padded to 30 s: {seconds(f['padded_s'])}",
            f"{number(f['share_of_padded'][s])} (aim {aim})",
        )
        for s, aim in (("3", "≤ 0.15"), ("10", "≤ 0.4"))
    ]
    ratio = f"{number(f['four_sooner'])}x sooner"
    one_by_one = f"one by one: {seconds(f['four_one_by_one_s'])}"
    return [
        *rows,
        Row("four windows of 9 to 14 s in one batch", seconds(f["four_together_s"]), one_by_one, ratio),
        Row("cores that encoding one window alone keeps busy", number(f["cores_busy_with_one"])),
    ]


def question(f: Figures) -> list[Row]:
    """Return the rows of `bench.question`."""
    ttft, kept, tiny, shares = f["ttft_s"], f"first token, {f['windows']} windows kept", f["tiny"], f["shares"]
    rows = [
        (f"{kept}, nothing open", "kept", "generate", "`generate` from the audio", "sooner_than_generate", 60),
        ("the same", "kept", "prefill", "prefill of ready embeddings", "sooner_than_prefill", 40),
        (f"{kept}, 10 s open", "open", "generate_open", "`generate` from the audio", "sooner_than_generate", 12),
        ("the same", "open", "prefill_open", "prefill of ready embeddings", "sooner_than_prefill", 8),
    ]
    return [
        Row(
            what,
            seconds(ttft[ours]),
            f"{name}: {seconds(ttft[other])}",
            f"{number(f[key + ('_with_10s_open' if ours == 'open' else '')])}x sooner (aim ≥ {aim})",
        )
        for what, ours, other, name, key, aim in rows
    ] + [
        Row(
            f"first token, {f['windows']} windows kept over one, nothing open",
            seconds(ttft["kept"]),
            f"one window: {seconds(f['ttft_s_one_window']['kept'])}",
            f"{number(f['growth_from_one_window'])}; by arithmetic {number(f['growth_by_arithmetic'])}, "
            f"of which it is {number(f['growth_over_arithmetic'])} (aim ≤ 1.25)",
        ),
        Row(
            "of the time to the first token with 10 s open: encoding, reading, choosing",
            ", ".join(number(shares[step]) for step in ("encode", "prefill", "decode")),
        ),
        *(
            Row(
                f"first token, {number(tiny['windows'])} windows kept by a tiny checkpoint, {tail}",
                seconds(tiny[ours]),
                f"`generate` from the audio: {seconds(tiny[other])}",
                f"{number(tiny[other] / tiny[ours])}x sooner",
            )
            for tail, ours, other in (("nothing open", "kept", "generate"), ("10 s open", "open", "generate_open"))
        ),
    ]


def append(f: Figures) -> list[Row]:
    """Return the rows of `bench.append`."""
    costs, windows, copied = f["seconds"], f["windows"], f["bytes_copied_a_token"]
    other = f["bytes_transformers_copies_a_token"]
    arithmetic = number(f["last_over_second_by_arithmetic"])
    return [
        Row(
            f"appending window {windows} over window 2",
            seconds(costs[-1]),
            f"window 2: {seconds(costs[1])}",
            f"{number(f['last_over_second'])} (aim ≤ 1.25; by arithmetic {arithmetic}, "
            f"of which it is {number(f['measured_over_arithmetic'])})",
        ),
        Row(
            "bytes copied for a token, in the first and the last window",
            f"{number(copied[0])}, {number(copied[-1])}",
            f"transformers: {number(other[0])}, {number(other[-1])}",
        ),
    ]


def captions(f: Figures) -> list[Row]:
    """Return the rows of `bench.captions`."""
    ours, padded, af3, live = f["at_length"], f["padded_to_30_s"], f["af3"], f["live"]

    def against(what: str, key: str, show: Callable[[Any], str]) -> Row:
        ratio = number(ours[key] / padded[key]) if padded[key] else ""
        return Row(what, show(ours[key]), f"Whisper padded to 30 s: {show(padded[key])}", ratio)

    rows = [
        against("computing a second of audio, finals only", "computing_s_a_second_finals_only", seconds),
        against("the same, with partial captions", "computing_s_a_second_with_interims", seconds),
        against("audio encoded for interims over audio heard", "encoded_over_heard_in_interims", number),
        *([against("words wrong, sample recordings", "word_error_rate", number)] if "word_error_rate" in ours else []),
        against("words taken back after being called stable", "stable_words_taken_back", number),
        Row(
            "AF3 as captioner: passes for a hypothesis a second, drafted by the last, by its frames and by itself",
            number(af3["passes_with_draft"]),
            f"without: {number(af3['passes_without'])}",
            f"{number(af3['passes_share'])} (aim ≤ 0.4; by the last alone, were no word ever changed, "
            f"{number(af3['passes_share_if_no_word_ever_changed'])})",
        ),
        Row(
            "computing a second of audio, one live stream with interims",
            seconds(live["computing_s_a_second"]),
            "",
            "(aim ≤ 0.35)",
        ),
    ]
    told = [
        ("from a word's end to its caption, mean", "word_delay_mean_s", seconds),
        ("the same, p95", "word_delay_p95_s", seconds),
        ("the same until it is called stable, mean", "stable_word_delay_mean_s", seconds),
        (
            "from the end of speech to the end of the pause that closes the utterance, mean",
            "speech_end_to_pause_end_mean_s",
            seconds,
        ),
        ("the same, p95", "speech_end_to_pause_end_p95_s", seconds),
        ("from the end of speech to its final caption, mean", "speech_end_to_final_mean_s", seconds),
        ("the same, p95", "speech_end_to_final_p95_s", seconds),
        ("words of an interim that the next one changes", "revision_rate", number),
    ]
    return rows + [Row(what, show(live[key])) for what, key, show in told]


def sessions(f: Figures) -> list[Row]:
    """Return the rows of `bench.sessions`."""
    rows = [
        Row(
            f"{count} paced streams, a question each 20 s: finals behind, mean and p95",
            f"{seconds(g['final_lag_mean_s'])}, {seconds(g['final_lag_p95_s'])}",
            "",
            f"worst session's p95 over the others' {number(g['unfairness'])} (aim ≤ 1.5)" if count != "1" else "",
        )
        for count, g in f["streams"].items()
    ]
    rows += [
        Row(
            f"{count} paced streams: first token, mean and p95; tokens a second together",
            f"{seconds(g['ttft_mean_s'])}, {seconds(g['ttft_p95_s'])}; {number(g['tokens_a_second'])}",
        )
        for count, g in f["streams"].items()
        if "ttft_mean_s" in g
    ]
    carried, usual = f["carried"], f["carried_by_growing_buffer"]
    return [
        *rows,
        Row(
            "streams of captions alone with finals less than 3 s behind",
            number(carried),
            f"whisper-base over a growing buffer each second: {number(usual)}",
            f"{number(carried / usual)}x (aim ≥ 2)" if usual else "",
        ),
        Row(
            "tokens a second, four answers together",
            number(f["tokens_a_second_of_four"]),
            f"one answer: {number(f['tokens_a_second_of_one'])}",
            f"{number(f['four_over_one'])}x (aim ≥ 2)",
        ),
    ]


def floor(f: Figures) -> list[Row]:
    """Return the rows of `bench.floor`."""
    return [
        Row(
            f"{way}, {windows} {'window' if windows == '1' else 'windows'} kept: memory read a second",
            f"{number(g['read_gb_a_second'])} GB ({number(g['tokens_a_second'])} tokens)",
            f"a sum over memory: {number(g['memory_gb_a_second'])} GB",
            f"{number(g['share'])} (aim ≥ 0.5)",
        )
        for way, figures in (("decoding", f["by_windows"]), ("decoding compiled", f["compiled_by_windows"]))
        for windows, g in figures.items()
    ]


def memory(f: Figures) -> list[Row]:
    """Return the rows of `bench.memory`."""
    peak, grown = f["peak_mb"], f["grown_after_mb"]
    parts = ", ".join(f"{part} {number(peak[part])}" for part in ("kv", "embeddings", "audio", "rest"))
    return [
        Row(
            f"memory of a session of {number(f['minutes'])} minutes, at most, MB",
            f"{number(peak['all'])}: weights {number(f['weights_mb'])}, {parts}",
        ),
        Row(
            "keys and values in memory, while a prefix is built anew too",
            "",
            "two numbers a position, layer and head",
            f"{number(f['kv_over_arithmetic'])} (aim ≤ 1.05)",
        ),
        Row(f"grown in {number(f['minutes_after'])} minutes more, MB", number(grown["all"])),
    ]


def rebuild(f: Figures) -> list[Row]:
    """Return the rows of `bench.rebuild`."""
    return [
        Row(
            f"an answer of {number(f['tokens'])} tokens beside a rebuild",
            seconds(f["answer_beside_a_rebuild_s"]),
            f"alone: {seconds(f['answer_s'])}",
            f"delayed by {number(f['answer_delayed_by'])} (aim ≤ 0.2)",
        ),
        Row(
            "a final caption beside a rebuild, p95",
            seconds(f["final_beside_a_rebuild_p95_s"]),
            f"alone: {seconds(f['final_p95_s'])}",
            f"delayed by {seconds(f['final_delayed_s'])} at most (aim ≤ a window: {seconds(f['window_s'])})",
        ),
    ]


def weights(f: Figures) -> list[Row]:
    """Return the rows of `bench.weights`."""
    full = f["by_weights"]["float32"]
    return [
        Row(
            f"{way} in place of float32: tokens a second; appending a window; the language model in memory",
            f"{number(g['tokens_a_second'])}; {seconds(g['append_s'])}; {number(g['language_model_mb'])} MB",
            f"float32: {number(full['tokens_a_second'])}; {seconds(full['append_s'])}; "
            f"{number(full['language_model_mb'])} MB",
            f"words wrong in AF3's captions {number(g['word_error_rate'])}, with float32 "
            f"{number(full['word_error_rate'])}"
            if "word_error_rate" in g
            else "",
        )
        for way, g in f["by_weights"].items()
        if way != "float32"
    ]


def http_cost(f: Figures) -> list[Row]:
    """Return the rows of `bench.http_cost`."""
    ours, alone, uvicorn = f["behind_http"], f["websockets_alone"], f["uvicorn_sansio"]

    def against(what: str, key: str) -> Row:
        micros = [f"{number(way[key] * 1e6)} µs" for way in (ours, alone, uvicorn)]
        other = f"`websockets.serve` alone: {micros[1]}; uvicorn's websockets-sansio: {micros[2]}"
        return Row(what, micros[0], other, f"{number(ours[key] / alone[key])}; {number(ours[key] / uvicorn[key])}")

    return [
        against("audio acknowledged over a socket beside HTTP: CPU time of the server a message", "cpu_s_a_round_trip"),
        against("the same: round trip, median", "round_trip_s"),
        against("the same: round trip, p95", "round_trip_p95_s"),
        against("a socket opened and closed: CPU time of the server", "cpu_s_a_connection"),
    ]


def lease_cost(f: Figures) -> list[Row]:
    """Return the rows of `bench.lease_cost`."""
    median, most, moved = f["commit_s"], f["commit_p95_s"], f["takeover_s"]

    def millis(value: float) -> str:
        return f"{number(value * 1e3)} ms"

    def against(what: str, figures: Figures, alternative: str) -> Row:
        ours, other = figures["shared"], figures["alone"]
        return Row(what, millis(ours), f"{alternative}: {millis(other)}", number(ours / other))

    alone = "a journal of one server"
    return [
        against("a commit of a shared journal, median", median, alone),
        against("the same, p95", most, alone),
        Row("of it, the check of the lease, median", f"{number(median['check'] * 1e6)} µs", "", ""),
        against("another server takes a session with 59 s of raw audio and 200 events", moved, f"{alone}, restarted"),
    ]


def waiting(f: Figures) -> list[Row]:
    """Return the rows of `bench.waiting`."""
    ways, rows = f["by_way"], []
    for place, where in (("alone", "one live stream"), ("busy", "the same beside a busy process a core")):
        ours, default, none = (ways[way][place] for way in ("ours", "default", "none"))
        for what, key in (
            ("final captions behind, mean", "final_behind_mean_s"),
            ("CPU time a second of audio", "cpu_s_a_second"),
        ):
            others = f"libgomp's default: {seconds(default[key])}; threads that sleep at once: {seconds(none[key])}"
            rows.append(Row(f"{where}: {what}", seconds(ours[key]), others))
    return rows


def peers(f: Figures) -> list[Row]:
    """Return the rows of `bench.peers`."""
    name = f"WhisperLive {f['whisper_live_version']}"
    rows = []
    for count, g in f["by_streams"].items():
        ours, theirs, streams = g["ours"], g["whisper_live"], "paced stream" if count == "1" else "paced streams"

        def pair(way: Figures, key: str) -> str:
            return ", ".join(seconds(way[f"{key}_{figure}_s"]) or "none" for figure in ("mean", "p95"))

        rows += [
            Row(
                f"{count} {streams} of natural voices, partial captions: words wrong",
                number(ours["word_error_rate"]),
                f"{name}: {number(theirs['word_error_rate'])}",
            ),
            Row(
                f"{count} {streams}: CPU time of the server a second of audio",
                seconds(ours["computing_s_a_second"]),
                f"{name}: {seconds(theirs['computing_s_a_second'])}",
                f"{number(g['computing_share'])} (aim ≤ 0.5)",
            ),
            Row(
                f"{count} {streams}: from a word's end until it is shown for good, mean and p95",
                pair(ours, "word_delay"),
                f"{name}: {pair(theirs, 'word_delay')}",
                "(aim for ours, p95: ≤ 3.5 s)" if count == "4" else "",
            ),
            Row(
                f"{count} {streams}: from the end of speech to its final caption, mean and p95",
                pair(ours, "speech_end_to_final"),
                f"{name}: {pair(theirs, 'speech_end_to_final')}",
            ),
        ]
    return rows


def cluster(f: Figures) -> list[Row]:
    """Return the rows of `bench.cluster`."""
    one, two, added, recovery = f["one_process"], f["gateway_and_engine"], f["added"], f["recovery"]

    def pair(figures: Figures) -> str:
        return "; ".join(f"{number(figures[f'p{rank}_ms'])} ms" for rank in (50, 99))

    rows = [
        Row(
            f"{what} through a gateway and an engine in processes of their own, {f['streams']} paced streams: p50; p99",
            pair(two[key]),
            f"one process: {pair(one[key])}",
            f"{number(added[key]['added_p50_ms'])} ms more (must 15 ms); "
            f"{number(added[key]['added_p99_ms'])} ms more (must 60 ms)",
        )
        for what, key in (("a final caption after its utterance", "final"), ("a first token", "first_token"))
    ]
    ours, alone = two["cpu_s_an_audio_second"], one["cpu_s_an_audio_second"]
    return [
        *rows,
        Row(
            "the same: CPU time a second of audio, gateway; engine, without a model",
            f"{number(ours['gateway'] * 1_000)} ms; {number(ours['engine'] * 1_000)} ms",
            f"one process: {number(alone['server'] * 1_000)} ms",
            f"{number(two['streams_a_core']['engine'])} streams a core of an engine",
        ),
        Row(
            f"{recovery['sessions']} sessions with a question each when their engine is killed: until all are answered",
            seconds(recovery["all_answered_s"]),
            "encoding again, by arithmetic: 0 s, the engine is scripted",
            "(must 10 s)",
        ),
    ]


def capacity(f: Figures) -> list[Row]:
    """Return the row of `bench.capacity`."""
    return [
        Row(
            "eight streams of `bench.eight_streams`, simulated: final captions behind; first words of an answer; means",
            "; ".join(seconds(f["eight_streams"]["by_figure"][key]["simulated"]) for key in EIGHT_STREAMS),
            "measured: "
            + "; ".join(seconds(f["eight_streams"]["by_figure"][key]["measured"]) for key in EIGHT_STREAMS),
            f"worst of seven figures: {number(f['eight_streams']['worst_ratio'])} (must 1.2)",
        )
    ]


ROWS: Final[dict[str, Callable[[Figures], list[Row]]]] = {
    "encode": encode,
    "append": append,
    "question": question,
    "captions": captions,
    "sessions": sessions,
    "floor": floor,
    "memory": memory,
    "rebuild": rebuild,
    "weights": weights,
    "http_cost": http_cost,
    "lease_cost": lease_cost,
    "peers": peers,
    "waiting": waiting,
    "cluster": cluster,
    "capacity": capacity,
}


def lines(command: str, figures: Figures) -> list[str]:
    """Return the table lines for the output of a bench."""
    machine = ", ".join(part for part in figures["machine"].split(", ") if part != "x86_64")
    return [
        f"| {figures['date']} | {machine} | `{command}` | {row.what} | {row.ours} | {row.alternative} | {row.ratio} |"
        for row in ROWS[figures["bench"]](figures)
    ]


def put(document: str, bench: str, rows: list[str]) -> str:
    """Replace the earlier rows of a bench in a document, and return the document.

    Raises:
        ValueError: if the document has no such table.
    """
    before, found, after = document.partition(f"{HEAD}\n{RULE}\n")
    if not found:
        raise ValueError(f"no table headed {HEAD!r}")
    table, rest = _split(after.splitlines(keepends=True))
    own = re.compile(rf"`python -m bench\.{bench}\b[^`]*`")
    places = [i for i, line in enumerate(table) if own.search(line.split(" | ")[2])]
    at = places[0] if places else len(table)
    kept_before = [line for i, line in enumerate(table[:at]) if i not in places]
    kept_after = [line for i, line in enumerate(table[at:], at) if i not in places]
    return "".join([before, found, *kept_before, *(f"{row}\n" for row in rows), *kept_after, *rest])


def _split(after: list[str]) -> tuple[list[str], list[str]]:
    """Return the lines of a table, and the lines after it."""
    end = next((i for i, line in enumerate(after) if not line.startswith("|")), len(after))
    return after[:end], after[end:]


def seconds(value: float | None) -> str:
    """Format seconds for people."""
    return "" if value is None else f"{number(value)} s"


def number(value: float) -> str:
    """Format a number with three significant digits, or a whole number exactly."""
    return (
        f"{value:.0f}"
        if float(value).is_integer() or abs(value) >= 100
        else f"{value:.2g}"
        if abs(value) < 1
        else f"{value:.3g}"
    )
