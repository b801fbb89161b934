"""SageMaker's container code on this machine."""
