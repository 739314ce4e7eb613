"""The outputs of a scan, for people and training pipelines: the page, the lists, the drop list.

`lists.write_lists`, `lists.DropList`, `choose.choose_drops` need numpy and pyarrow only; `page.write_page`
also jinja2, and Pillow where there are pictures to show.
"""
