"""The laboratory's grid (`clipscan lab run`): many poisoned datasets, each trained on, scanned and scored.

config.py reads what is asked (toml_keys.py), of which config_datasets.py and config_cases.py make datasets
and cells; runner.py does it, in processes of jobs.py. cells.py poisons, trains and embeds one cell;
evaluate.py tests its model (zero_shot.py), cell_scores.py scores its vectors, metrics.py compares these with
the truth and metrics_cache.py keeps that; defences.py and head_trials.py try what helps;
result_rows.py writes it all down. experiment.py is a single one, for the demo.
"""
