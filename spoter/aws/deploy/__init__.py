"""Deployment to SageMaker."""
