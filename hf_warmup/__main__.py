"""`python -m hf_warmup` is `hf-warmup`; `accelerate launch -m hf_warmup run SCRIPT` needs this form."""

from hf_warmup.cli.application import main


if __name__ == "__main__":
    main()
