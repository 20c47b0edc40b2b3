"""DC6xx: images and audio, and the labels of images."""

from __future__ import annotations

from functools import partial

from datacheck.codes.code import Code, Family

_code = partial(Code, family=Family.MEDIA, tolerable=True)

CODES = (
    _code(
        code="DC601",
        name="undecodable",
        level="value",
        message="{violations} of {checked} values of {field} cannot be decoded: {detail}",
        finds="""An image or a recording that cannot be decoded to its end: truncated, damaged, empty, or something else
            under its name, such as the HTML page of an error.""",
        why="""A loader raises when the sample comes up, or goes on with half of it. Many scripts set
            `LOAD_TRUNCATED_IMAGES`, which fills the rest with grey; readers of WAV files take what is there.""",
        example="""A download was interrupted:

                DC601 1 of 1 values of 'image' cannot be decoded: image file is truncated (17 bytes not processed) (train/cat/0017.jpg)""",
        remedy="""Fetch the file again, or leave it out:

                - {action: quarantine, codes: DC601}""",
    ),
    _code(
        code="DC602",
        name="wrong-suffix",
        level="value",
        severity="warning",
        message="{violations} of {checked} values of {field} are of another format than their name: {detail}",
        finds="An image or a recording whose name has the suffix of another format.",
        why="Loaders that choose a decoder by the suffix fail on it, or read it with other colors.",
        example="""A PNG was saved as .jpg:

                DC602 warning: 1 of 1 values of 'image' are of another format than their name: its name says jpeg, its bytes are png (train/cat/0017.jpg)""",
        remedy="Rename the file.",
    ),
    _code(
        code="DC603",
        name="one-color",
        level="value",
        severity="warning",
        message="{violations} of {checked} values of {field} are of one color: {detail}",
        finds="An image whose pixels all have the same color.",
        why="""A blank scan or a failed render still carries its label. Normalising it by its own deviation gives
            NaN.""",
        example="""A render failed:

                DC603 warning: 1 of 1 values of 'image' are of one color: every pixel has the same color (train/cat/0017.jpg)""",
        remedy="""Look at it, and leave it out if it is meant to show something:

                - {action: drop_row, codes: DC603}""",
    ),
    _code(
        code="DC604",
        name="too-large-to-decode",
        level="value",
        message="{violations} of {checked} values of {field} are too large to decode: {detail}",
        finds="An image or a recording that would take more than 256 MiB once decoded, and was not.",
        why="A few kilobytes can declare billions of pixels: a loader that decodes them runs out of memory.",
        example="""A crafted PNG declares 400 million pixels:

                DC604 1 of 1 values of 'image' are too large to decode: 1,200,000,000 bytes of pixels (train/0017.png)""",
        remedy="Leave it out, or store it in parts.",
    ),
    _code(
        code="DC605",
        name="silence",
        level="value",
        severity="warning",
        message="{violations} of {checked} values of {field} are silent: {detail}",
        finds="A recording without any sample above a ten-thousandth of full scale.",
        why="It still carries its label. Normalising it by its own level gives NaN.",
        example="""A microphone was off:

                DC605 warning: 1 of 1 values of 'audio' are silent: no sample is above 0 of full scale (train/0017.wav)""",
        remedy="""Listen to it, and leave it out:

                - {action: drop_row, codes: DC605}""",
    ),
    _code(
        code="DC606",
        name="clipping",
        level="value",
        severity="warning",
        message="{violations} of {checked} values of {field} are clipped: {detail}",
        finds="A recording in which more than a thousandth of the samples are at or beyond full scale.",
        why="""What was louder is lost. It is also what NaN becomes when floats are written as PCM: full scale, without
            a trace.""",
        example="""A gain was too high:

                DC606 warning: 1 of 1 values of 'audio' are clipped: 4,096 of 480,000 samples are at or beyond full scale (train/0017.wav)""",
        remedy="Listen to it; record or convert it again with less gain.",
    ),
    _code(
        code="DC607",
        name="wrong-label",
        level="file",
        about_inputs=True,
        message="has {violations} wrong of {checked} labels: {detail}",
        finds="""Label files of images (COCO JSON, Pascal VOC, YOLO) with boxes beyond their image or without area, or
            with non-finite coordinates. Also sizes that differ from the images, categories or images that the file does
            not list, and missing images.""",
        why="""A box beyond its image or without area makes the loss NaN, or teaches the model a place where nothing is.
            A missing image ends the epoch.""",
        example="""Images were resized, and their boxes were not:

                DC607 has 3 wrong of 5,000 labels: its box reaches beyond its image: annotation '17', '35' and '92' (data/instances_train.json)""",
        remedy="Correct the labels, or leave these out. Boxes may reach a pixel (0.1 %) beyond their image.",
    ),
)
