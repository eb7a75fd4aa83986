"""Checkpoints that go to the Hub and come from it, with what was proven of them: folders, cards, the zoo."""
