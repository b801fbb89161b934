"""Deploy a model folder to Amazon SageMaker, like `spoter deploy`."""

from spoter.cli.deploy import main

if __name__ == "__main__":
    main()
