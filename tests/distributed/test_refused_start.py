"""A start that was refused binds nothing: the corrected command runs in the same folder."""

from tests.faults.runs import Job, events, losses, small_corpus_folder, write_recipe

GPT2 = {"type": "gpt2", "hidden_size": 32, "num_layers": 2, "num_heads": 4, "max_positions": 32}
MUON = {"type": "muon", "lr": 0.02}


def test_the_corrected_command_runs_in_the_same_folder(tmp_path):
    corpus = small_corpus_folder(tmp_path)
    engine = {"zero_stage": 2, "compile": False, "timeout_seconds": 60, "gradient_clipping": 0}
    refused = write_recipe(tmp_path / "run.yaml", corpus, model=GPT2, optimizer=MUON, engine=engine)
    with Job(refused, 1) as job:
        assert job.wait() == [2]
        assert "optimizer.type muon is not for this model" in job.said()
    assert (job.run / "config.yaml").exists()
    corrected = write_recipe(tmp_path / "run.yaml", corpus, duration={"steps": 3})
    with Job(corrected, 1) as job:
        job.done()
    assert list(losses(job.run)) == [1, 2, 3]
    with Job(refused, 1, "optimizer={type: lion, lr: 0.001}") as job:  # now it is bound
        assert job.wait() == [2]
        assert "was made with another config (optimizer.type was adamw, is lion)" in job.said()
    assert [row["event"] for row in events(job.run, "start", "resume")] == ["start"]
