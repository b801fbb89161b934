"""Deployment to Amazon SageMaker."""
