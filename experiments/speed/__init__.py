"""How fast the method runs, and what each way to run it contributes: `python run.py experiment=speed`."""
