"""Deployment to Amazon SageMaker and AWS Lambda."""
