"""The laboratory, in four packages of which each imports only those before it:

    scenes    generated pictures and captions
    attacks   triggers, planted captions, poisoning
    grid      many poisoned datasets trained on, scanned and scored
    tables    pages and plots of what came out

demo.py is the whole job once (`clipscan demo`). poison.py and metrics.py are old names of two modules.
"""
