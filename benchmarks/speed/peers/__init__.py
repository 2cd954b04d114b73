"""One training step, written four times: by hand, through both doors, and with torchdistill."""
