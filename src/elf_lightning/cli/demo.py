"""`elf demo`: a page in the browser where texts settle from noise; also the `app.py` of a Space."""

import argparse
import os
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from queue import SimpleQueue
from threading import Event
from typing import TYPE_CHECKING, Any

from markupsafe import escape

from elf_lightning import generation, reporting, sampling
from elf_lightning.cli.options import OneLineParser, add_checkpoint, add_machine, load
from elf_lightning.errors import UserError
from elf_lightning.sampling.settings import WITHOUT_GAMMA
from elf_lightning.terminal import Terminal

if TYPE_CHECKING:
    from gradio import Blocks

LOOPBACK, PORT = "127.0.0.1", 7860
SLIDERS = {
    "steps": ("Steps", 1, 128, 1),
    "guidance": ("Guidance w", 0, 8, 0.1),
    "gamma": ("Noise added back (gamma)", 0, 4, 0.1),
    "repetition_control": ("Repetition control", 0, 5, 0.1),
}
"""Sampling setting -> label, minimum, maximum and step of its slider."""
HINT = "Each _ is a token to fill in. Empty: a text of the model's own."
STYLE = "footer { display: none !important } .gradio-container { max-width: 72rem !important }"
EXAMPLES = ("it was a dark and stormy night", "the old man _ _ _ _ _ the sea.")


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="elf demo", description="Open a page where texts settle from noise.")
    add_checkpoint(parser)
    host = f"address to listen on; 0.0.0.0 is open to the network (default: {LOOPBACK}, this machine only)"
    parser.add_argument("--host", default=os.environ.get("GRADIO_SERVER_NAME", LOOPBACK), help=host)
    port = os.environ.get("GRADIO_SERVER_PORT", PORT)
    parser.add_argument("--port", type=int, default=port, metavar="N", help=f"(default: {PORT})")
    add_machine(parser.add_argument_group("model and machine"))
    return parser


def run(arguments: Sequence[str]) -> None:
    """Run `["demo", "--port", "7861"]` until Ctrl-C."""
    options = _parser().parse_args(arguments[1:])
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported
    from elf_lightning.metrics.text_metric import import_optional

    import_optional("gradio", "'elf_lightning[demo]'")
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Gradio does
            probe.bind((options.host, options.port))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--host {options.host} --port {options.port}: {reason}; choose another") from error
    page = build(load(options, Terminal(stderr=True)))
    print(f"http://{options.host}:{options.port} (Ctrl-C ends)", file=sys.stderr)
    serve(page, options.host, options.port)


def serve(page: "Blocks", host: str, port: int, **options: Any) -> None:
    """Serve the page until Ctrl-C, without telemetry, public link, or anything from another server."""
    from gradio.themes import Default

    page.launch(
        server_name=host,
        server_port=port,
        theme=Default(font="system-ui", font_mono="ui-monospace"),  # its own fonts are downloaded
        css=STYLE,
        quiet=True,
        share=False,
        ssr_mode=False,
        footer_links=[],
        **options,
    )


def settle(model: "generation.ELF", text: str = "", seed: int = 0, **settings: Any) -> Iterator[str]:
    """The text after each step of sampling, as HTML; closing the iterator ends sampling after its step.

    `text` is a prompt, a template if it has blanks (`_`), or nothing; `settings` override the model's own.
    """
    steps = model.changed_settings(**settings).num_steps
    shown, times = reporting.shown_steps(steps), []
    path = reporting.TextPath(text, tokens := [], pieces := [])
    template = "_" in text and model.codec.max_condition_length is None
    request = {"infill" if template else "prompts": [text] if text.strip() else None}
    arrived: SimpleQueue[sampling.Step | None] = SimpleQueue()
    stopped, start = Event(), time.monotonic()

    def on_step(step: "sampling.Step") -> None:
        if stopped.is_set():
            raise CancelledError
        arrived.put(step)

    options: dict[str, Any] = {"trajectory_steps": shown, "on_step": on_step, **request, **settings}
    options["best_of"] = 1  # the page shows the one text from its first step on
    with ThreadPoolExecutor(1) as pool:
        work = pool.submit(lambda: next(model.samples(1, seed, **options)))
        work.add_done_callback(lambda _: arrived.put(None))
        try:
            while (step := arrived.get()) is not None:
                if step.tokens is not None:
                    times.append(step.time)
                    tokens.append(step.tokens[0].tolist())
                    pieces.append(model.codec.token_texts(tokens[-1]))
                    note = f"step {step.number + 1} of {steps}, {time.monotonic() - start:.1f} s"
                    yield reporting.trajectory_moment(times, path, len(shown), note)
        finally:
            stopped.set()
    work.result()  # raises its error


def build(model: "generation.ELF") -> "Blocks":
    """The page: one text, and two settings side by side at one seed. Needs the extra `demo`."""
    import gradio

    with gradio.Blocks(title="Text from noise", analytics_enabled=False) as page:
        gradio.Markdown(f"# Text from noise\n\n`{model!r}`")
        with gradio.Tab("One text"):
            _add_tab(model, [model.settings.num_steps])
        with gradio.Tab("Side by side"):
            _add_tab(model, [model.settings.num_steps, max(1, model.settings.num_steps // 4)])
    return page.queue()


def _add_tab(model: "generation.ELF", sides: Sequence[int]) -> None:
    """Add prompt, seed and buttons, and for each side, which begins with so many steps, text and settings."""
    import gradio

    answers = model.codec.max_condition_length is not None  # it has no template, and needs a prompt
    with gradio.Row():
        label, hint = ("Prompt", None) if answers else ("Prompt, or template with blanks", HINT)
        text = gradio.Textbox(label=label, info=hint, lines=2, scale=4)
        seed = gradio.Number(0, label="Seed", precision=0, scale=1, min_width=120)
    with gradio.Row():
        start = gradio.Button("Generate" if len(sides) == 1 else "Compare", variant="primary", min_width=100)
        stop = gradio.Button("Stop", min_width=100)
    visible = dict.fromkeys(SLIDERS, True)  # those without effect on this model are hidden
    visible["gamma"] = model.settings.solver not in WITHOUT_GAMMA
    visible["repetition_control"] = model.repetition_direction is not None
    outputs, sliders = [], []
    with gradio.Row():
        for steps in sides:
            with gradio.Column(min_width=320):
                outputs.append(gradio.HTML(min_height=160))
                own = _own(model) | {"steps": steps}
                for name, (label, low, high, step) in SLIDERS.items():
                    form = {"step": step, "label": label, "visible": visible[name]}
                    sliders.append(gradio.Slider(low, max(high, own[name]), own[name], **form))
    if not answers:
        gradio.Examples([[example] for example in EXAMPLES], [text], label="Examples")

    def play(text: str, seed: int | None, *values: float) -> Iterator[dict[Any, str]]:
        yield dict.fromkeys(outputs, "")
        for side, output in enumerate(outputs):
            settings = _changed(model, values[side * len(SLIDERS) : (side + 1) * len(SLIDERS)])
            try:
                for moment in settle(model, text, seed or 0, **settings):
                    yield {output: moment}
            except UserError as error:
                yield {output: escape(str(error))}

    # One text at a time: both tabs wait in one queue.
    waiting: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 1, "show_progress": "hidden"}
    running = gradio.on([start.click, text.submit], play, [text, seed, *sliders], outputs, **waiting)
    stop.click(None, cancels=[running])


def _own(model: "generation.ELF") -> dict[str, Any]:
    """The model's own values of the sliders."""
    return {name: getattr(model.settings, name) for name in SLIDERS} | {"steps": model.settings.num_steps}


def _changed(model: "generation.ELF", values: Sequence[float]) -> dict[str, Any]:
    """The settings that differ from the model's own, which may have more to them: `times`, for one."""
    own = zip(_own(model).items(), values, strict=True)
    return {name: type(default)(value) for (name, default), value in own if value != default}


if __name__ == "__main__":
    from elf_lightning.cli import main

    sys.exit(main(["demo", *sys.argv[1:]]))
