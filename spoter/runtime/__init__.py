"""Runtimes compute logits and embeddings from features: torch and ONNX Runtime."""
