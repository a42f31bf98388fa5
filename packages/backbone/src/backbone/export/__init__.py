"""Networks as programs for other runtimes: ONNX, `torch.export` and OpenVINO."""
