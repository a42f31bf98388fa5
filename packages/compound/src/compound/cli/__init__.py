"""The command ``compound <verb>``: one module a verb. Only here is Hydra known."""
