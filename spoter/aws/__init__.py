"""Amazon SageMaker and AWS Lambda."""
