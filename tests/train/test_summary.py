"""`summary` against numbers counted by hand, the programs that really run, and the command."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import seqlib
from seqlib import nn
from seqlib.cli.main import main
from seqlib.core.op import Meta
from seqlib.core.rng import Generator
from seqlib.models import lstm_seq2seq, transformer
from seqlib.optim import SGD, AdamW
from seqlib.problems.spec import ProblemSpec
from seqlib.train import run
from seqlib.train.setup import make_config
from seqlib.train.step import CompiledStep
from seqlib.train.summary import Summary, empty_batch
from tests.train.conftest import Stop

D, F, V, B, S, T = 16, 24, 50, 3, 5, 7
SPEC = ProblemSpec(source_vocab=V, target_vocab=V)


def _transformer(**changes: Any) -> transformer.Transformer:
    sizes = {"encoder_layers": 1, "decoder_layers": 2, "d_model": D, "d_ff": F, "heads": 2, "max_length": 32}
    with seqlib.meta():
        return transformer.build(transformer.TransformerConfig(**sizes, **changes), SPEC, Generator(0))


def _layer(page: Summary, name: str) -> Any:
    return next(layer for layer in page.layers if layer.name == name)


def test_a_transformer_as_counted_by_hand() -> None:
    page = seqlib.summary(_transformer(), empty_batch(B, S, T))
    norm, attention, feed = 2 * D, 4 * D * D, 2 * D * F + F + D
    encoder, decoder = 2 * norm + attention + feed, 3 * norm + 2 * attention + feed
    assert page.parameters == page.trainable == V * D + encoder + 2 * decoder + 2 * norm
    assert _layer(page, "encoder.0").parameters == encoder and _layer(page, "decoder.1").parameters == decoder
    assert _layer(page, "encoder.0.feed_forward.in_proj").parameters == D * F + F

    source, target = B * S, B * T  # rows
    own = {"encoder.0": 4 * source * S * D, "decoder.0": 4 * target * T * D + 4 * target * S * D}
    products = {
        "encoder.0": 2 * source * 4 * D * D + 4 * source * D * F,
        "decoder.0": 2 * target * (4 + 2) * D * D + 2 * source * 2 * D * D + 4 * target * D * F,
    }
    output = 2 * target * D * V
    for name in ("encoder.0", "decoder.0"):
        assert _layer(page, name).flops == products[name] + own[name]
        # Backward: two products for each, five for the two of attention, whose scores are made again.
        assert _layer(page, name).step_flops == 3 * products[name] + own[name] + own[name] * 5 // 2
    assert (
        page.forward.flops
        == sum(products.values()) + products["decoder.0"] + own["encoder.0"] + 2 * own["decoder.0"] + output
    )
    assert page.step_flops == sum(part.flops for part in page.step) == page.layers[0].step_flops

    assert _layer(page, "source_embedding").outputs == ((B, S, D), (B, T, D))  # shared by both sides
    assert _layer(page, "decoder.0.feed_forward.in_proj").outputs == ((B, T, F),)
    assert page.weights_bytes == 4 * (page.parameters + 32 * D)  # and the table of positions
    assert page.optimizer_bytes == 4 * (2 * page.parameters + 2)


def test_launches_and_memory_are_those_of_the_programs_that_run() -> None:
    with_memory = transformer.build(_transformer().config, SPEC, Generator(0))
    batch, generator = empty_batch(B, S, T), Generator(3)
    optimizer = AdamW(with_memory.train().trainable_parameters())
    (program,) = CompiledStep(with_memory, optimizer, generator, 0.1).lower([batch])
    (step,) = seqlib.summary(_transformer(), batch, smoothing=0.1).step
    assert (step.launches, step.planned_bytes) == (program.launch_count, program.arena_bytes)
    before = with_memory.state_dict()
    page = seqlib.summary(with_memory, batch, smoothing=0.1)
    assert page.step[0] == step and with_memory.training and with_memory.decoder[0].training
    assert all(np.array_equal(before[name], array) for name, array in with_memory.state_dict().items())


def test_recurrent_layers_and_the_keys_of_attention_are_counted_where_they_belong() -> None:
    config = lstm_seq2seq.LSTMSeq2SeqConfig(layers=1, d_model=8, hidden=12, attention="bahdanau", max_length=32)
    with seqlib.meta():
        model = lstm_seq2seq.build(config, SPEC, Generator(0))
    page = seqlib.summary(model, empty_batch(B, S, T))
    cell = 4 * 6 * (8 + 6)  # weights by input and state, a direction
    assert _layer(page, "encoder").parameters == 2 * (cell + 4 * 6)
    assert _layer(page, "encoder").flops == 2 * B * S * 2 * cell
    assert _layer(page, "attention.key_proj").flops == 2 * B * S * 12 * 8
    assert _layer(page, "combine").flops == 2 * B * T * 24 * 8


def test_any_module() -> None:
    page = seqlib.summary(nn.Linear(10, 20), Meta((5, 10), np.dtype(np.float32)))
    assert page.parameters == 220 and page.forward.flops == 2 * 5 * 10 * 20
    assert page.step_flops == 2 * page.forward.flops  # its input needs no gradient
    assert page.layers[0].outputs == ((5, 20),) and page.to_dict()["forward_flops_per_token"] is None


def test_frozen_parameters_and_another_optimizer() -> None:
    model = _transformer(tie_output=False)
    model.freeze("encoder.*")
    trained = model.num_parameters(trainable_only=True)
    page = seqlib.summary(model, empty_batch(B, S, T), optimizer=SGD(model.trainable_parameters(), momentum=0.9))
    assert page.trainable == trained < page.parameters and _layer(page, "encoder.0").trainable == 0
    assert page.optimizer_bytes == 4 * (trained + 2)
    text = page.text(1)
    assert "frozen" in text and "partly frozen" in text and "sgd" in text
    outside = next(line for line in text.splitlines() if line.startswith("(outside"))
    assert f"{V * D:,}" in outside  # the output matrix
    model.freeze("*")
    assert seqlib.summary(model, empty_batch(B, S, T)).step == []


def test_depth_and_micro_batches() -> None:
    page = seqlib.summary(_transformer(), empty_batch(B, S, T), accumulate=3)
    assert [(part.name, part.times) for part in page.step] == [("clear", 1), ("micro-batch", 3), ("update", 1)]
    assert page.step_flops == page.layers[0].step_flops == 3 * page.step[1].flops
    lines = [len(page.text(depth).splitlines()) for depth in (1, 2, None)]
    assert lines == sorted(set(lines)) and "decoder.1.attention" not in page.text(1)
    assert "decoder.1.attention" in page.text(2)


def _command(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["summary", *words])
    found = capsys.readouterr()
    return code, found.out, found.err


def test_the_command_for_flags(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = _command(capsys, "--problem", "translate_multi30k_ende", "--rows", "2", "--json")
    found = json.loads(out)
    assert code == 0 and found["parameters"] == 1_831_424 and found["target_vocab"] == 4000
    assert found["batch"] == {"rows": 2, "source_tokens": 32, "target_tokens": 32}
    code, out, _ = _command(
        capsys,
        "--hparams_set",
        "transformer_big",
        "--vocab-size",
        "32000",
        "--optim.ema",
        "0.9",
        "--source_tokens",
        "64",
    )
    assert code == 0 and "209,055,744" in out and "64 rows, 64 source tokens, 64 target tokens" in out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--hparams_set", "transformer_tiny"), "--vocab_size"),
        (("--problem", "translate_multi30k_endo"), "translate_multi30k_ende"),
        (("nowhere",), "there is no such folder"),
        (("nowhere", "--optim.lr", "3"), "its own settings"),
        (("--problem", "translate_multi30k_ende", "--source_tokens", "999"), "at most 256"),
    ],
)
def test_what_cannot_be_summed_up(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], expected: str) -> None:
    code, out, err = _command(capsys, *words)
    assert code == 2 and not out and expected in err


def test_a_run_and_its_model(settings: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings["batch"]["kind"] = "packing"
    settings["save_every"] = 2
    config = make_config(settings)
    run.train(config, [Stop(2)])
    folder = str(tmp_path / "run")
    code, out, err = _command(capsys, folder, "--json")
    stopped = json.loads(out)
    assert code == 0, err
    assert stopped["batch"] == {"segments": 32, "source_tokens": 1024, "target_tokens": 1024}
    run.resume(tmp_path / "run")
    capsys.readouterr()
    assert json.loads(_command(capsys, folder, "--json")[1]) == stopped
    code, out, _ = _command(capsys, str(tmp_path / "run" / "model"))
    assert code == 0 and f"{stopped['parameters']:,}" in out
