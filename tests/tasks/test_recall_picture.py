"""The picture of thousands of pairs shows what the memory does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import recall_picture
from associative_recall_task import AssociativeRecallTask
from options import build_parser
from run import Run
from training import main

SMALL = "-input_size 9 -mem_slot 32 -mem_size 4 -nhid 8 -batch_size 2 -sparse_reads 2".split()


def trained(*more: str) -> Run:
    task = AssociativeRecallTask()
    parser = build_parser("", task.add_options, **task.defaults)
    return Run(task, parser.parse_args([*SMALL, *more]), torch.device("cpu"))


@pytest.mark.parametrize("memory", ["sam", "sdnc"])
def test_what_is_found(memory: str) -> None:
    """Against the debug dictionary, which shows all slots."""
    run = trained("-memory_type", memory, "-read_heads", "2")
    found = recall_picture.recall(run, 6, 5)
    run.memory.debug = True
    generator = torch.Generator().manual_seed(4)
    batch = recall_picture.associative_recall_batch(1, 6, 4, generator, queries=5)
    output, _, trace = run.model(batch.input)
    writes = torch.as_tensor(trace["write_weights"])[:6]
    assert torch.equal(writes.gather(1, found.written.unsqueeze(1))[:, 0], writes.amax(1))
    reads = torch.as_tensor(trace["read_weights"])[6:]
    torch.testing.assert_close(found.weight, reads.amax(1))
    top, owners = reads.argmax(1) % 32, found.written.tolist()
    for slot, pair in zip(top.tolist(), found.read.tolist(), strict=True):
        assert pair == (
            max(at for at, own in enumerate(owners) if own == slot) if slot in owners else -1
        )
    asked = batch.input[0, 6:, :4]
    assert torch.equal(batch.input[0, :6, :4][found.asked], asked)
    wrong = (output[0, 6:] > 0) != batch.target[0].bool()
    assert torch.equal(found.wrong, wrong.sum(1))


@pytest.mark.usefixtures("no_pictures")
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = [*SMALL, "-iterations", "2", "-checkpoint_dir", str(tmp_path)]
    main(AssociativeRecallTask(), "", own)
    main(AssociativeRecallTask(), "", [*own, "-memory_type", "dnc"])
    path, picture = tmp_path / "associative_recall_sam.pt", tmp_path / "new" / "recall.png"
    recall_picture.main([str(path), "-pairs", "9", "-queries", "4", "-out", str(picture)])
    assert "9 pairs: " in capsys.readouterr().out
    assert picture.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(SystemExit, match="-pairs 17: expected at most 16 distinct keys"):
        recall_picture.main([str(path), "-pairs", "17"])
    with pytest.raises(SystemExit, match="expected sam or sdnc, got a dnc"):
        recall_picture.main([str(tmp_path / "associative_recall_dnc.pt")])
    with pytest.raises(SystemExit, match=f"^{tmp_path}/none: no such file or directory"):
        recall_picture.main([str(tmp_path / "none")])
