"""Licences come out as SPDX, or as unstated; never as a guess."""

import pytest

from pipelines.licences import UNSTATED, spdx, spdx_of_classifiers, spdx_of_text

MIT_TEXT = """MIT License

Copyright (c) 2020 Somebody

Permission is hereby granted, free of charge, to any person obtaining a copy of this software ... The above
copyright notice and this permission notice shall be included in all copies.
"""
BSD_TEXT = "Copyright X. Redistribution and use in source and binary forms, with or without modification, are permitted"


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ("MIT", "MIT"),
        ("mit", "MIT"),
        ("apache-2.0 or mit", "Apache-2.0 OR MIT"),
        ("Apache License, Version 2.0", "Apache-2.0"),
        ("Apache Software License 2.0", "Apache-2.0"),
        ("The MIT License (MIT)", "MIT"),
        ("3-Clause BSD License", "BSD-3-Clause"),
        ("MIT / Apache 2.0", "MIT OR Apache-2.0"),
        ("GPLv3+", "GPL-3.0-or-later"),
        ("(Apache-2.0 WITH LLVM-exception) AND MIT", "(Apache-2.0 WITH LLVM-exception) AND MIT"),
        ("LicenseRef-Ours", "LicenseRef-Ours"),
        ("BSD", UNSTATED),  # two or three clauses?
        ("Dual License", UNSTATED),
        ("see LICENSE", UNSTATED),
        ("", UNSTATED),
        ("  \n", UNSTATED),
    ],
)
def test_what_people_state(stated, expected):
    assert spdx(stated) == expected


def test_a_whole_licence_text_in_the_field_is_recognised():
    assert spdx(MIT_TEXT) == "MIT"
    assert spdx_of_text(BSD_TEXT) == "BSD-2-Clause"
    assert spdx_of_text(BSD_TEXT + " ... to endorse or promote products derived") == "BSD-3-Clause"


def test_a_licence_that_is_bundled_further_below_does_not_count():
    assert spdx_of_text("Our own terms. " * 200 + MIT_TEXT) == UNSTATED
    assert spdx_of_text(MIT_TEXT + BSD_TEXT) == UNSTATED  # begins with two


def test_classifiers_are_joined_by_and_and_an_unclear_one_stays_visible():
    apache, mit = "License :: OSI Approved :: Apache Software License", "License :: OSI Approved :: MIT License"
    assert spdx_of_classifiers(["Programming Language :: Python", mit, apache]) == "Apache-2.0 AND MIT"
    unclear = "License :: OSI Approved :: BSD License"
    assert spdx_of_classifiers([apache, unclear]) == f"Apache-2.0 AND {UNSTATED}"
    assert spdx_of_classifiers(["License :: OSI Approved"]) == UNSTATED
