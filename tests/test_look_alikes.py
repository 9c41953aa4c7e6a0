"""Positions that look alike: the first is tried, what follows shows whether it was the one, and the replay begins anew."""


def test_the_next_match_is_taken(trial):
    recorded = trial.assert_replays(["look_alikes.py", "0.001"], programs=["look_alikes.py"])
    assert recorded.stdout.startswith(b"48 "), recorded
