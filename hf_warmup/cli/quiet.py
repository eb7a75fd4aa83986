"""Silences the progress bars and load reports of libraries, which would drown what a command says."""


def quiet_libraries() -> None:
    """Turn off the progress bars and load reports of transformers and datasets."""
    import datasets
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
