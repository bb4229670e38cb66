"""Too little memory: one sentence that says what to change, exit status 2, nothing consumed."""

from pathlib import Path

from tests.faults.runs import Job, events, ledger, write_recipe


def test_an_allocation_that_fails_says_what_to_change(tmp_path: Path, corpus: Path) -> None:
    data = {"type": "corpus", "sources": [{"corpus": str(corpus), "source": "small"}], "sequence_length": 256}
    recipe = write_recipe(tmp_path / "run.yaml", corpus, data=data, batch={"global_size": 32, "micro_size": 16})
    with Job(recipe, call="tests.faults.injected:cramped", more=[4_000_000]) as job:
        assert job.wait() == [2, 2], job.said()
    for rank in (0, 1):
        assert f"tarmac: rank {rank} is out of memory on cpu (it asked for" in job.said()
    assert (
        "lower batch.micro_size (16), or set engine.recompute to selective or full, or raise engine.zero_stage (2)"
        in (job.said())
    )
    assert "Traceback" not in job.said()
    assert not ledger(job.run, 0)
    assert not events(job.run, "save")


def test_a_model_larger_than_the_host_is_not_begun(tmp_path: Path, corpus: Path) -> None:
    model = {"type": "llama", "hidden_size": 65536, "intermediate_size": 262144, "num_layers": 40, "num_heads": 64,
             "num_key_value_heads": 64}  # fmt: skip
    recipe = write_recipe(tmp_path / "run.yaml", corpus, model=model)
    with Job(recipe) as job:
        assert job.wait() == [2, 2], job.said()
    assert job.said().count("parameters with gradients and optimizer take") == 1
    assert "for 2 rank(s) on host" in job.said()
    assert not events(job.run)
