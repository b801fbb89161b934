"""What computes the logits: torch, or ONNX Runtime."""
