import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.scripts.gguf_choice import Unclear, choose, has_quant, is_shard

SHARDS = [f"big/big-Q4_K_M-0000{number}-of-00003.gguf" for number in (1, 2, 3)]


@pytest.mark.parametrize(
    ("name", "quant", "holds"),
    [
        ("tiny-Q4_K_M.gguf", "Q4_K_M", True),
        ("tiny-q4_k_m.gguf", "Q4_K_M", True),
        ("tiny.Q4_K_M.gguf", "q4_k_m", True),
        ("big-Q4_K_M-00001-of-00003.gguf", "Q4_K_M", True),
        ("tiny-UD-Q4_K_XL.gguf", "Q4_K_XL", True),
        ("tiny-Q4_K_M_L.gguf", "Q4_K_M", False),
        ("tiny-IQ4_K_M.gguf", "Q4_K_M", False),
        ("tiny-Q4_K_M.gguf", "Q4_K", False),
        ("Q4_K_M/tiny-Q8_0.gguf", "Q4_K_M", False),
    ],
)
def test_a_quant_is_a_whole_token_of_the_files_own_name(name: str, quant: str, holds: bool) -> None:  # noqa: FBT001 - a table's column
    assert has_quant(name, quant) is holds


tokens = st.from_regex(r"[A-Za-z0-9_]+", fullmatch=True).filter(lambda token: token.casefold() not in {"tiny", "gguf"})


@given(tokens, tokens, st.sampled_from("-."))
def test_a_file_of_one_quant_is_taken_for_no_other(its_own: str, asked: str, mark: str) -> None:
    assert has_quant(f"Q4_K_M/tiny{mark}{its_own}.gguf", asked) is (its_own.casefold() == asked.casefold())


def test_projectors_and_other_files_are_no_models() -> None:
    files = ["mmproj-tiny-Q4_K_M.gguf", "tiny-Q4_K_M.gguf", "tiny-Q4_K_M.safetensors"]
    assert choose(files, "Q4_K_M", None) == ["tiny-Q4_K_M.gguf"]


@pytest.mark.parametrize(
    ("names", "filename", "told"),
    [
        (["a-Q4_K_M.gguf", "b-Q4_K_M.gguf", "c-Q8_0.gguf"], None, ["several", "a-Q4_K_M.gguf, b-Q4_K_M.gguf"]),
        (["a-Q8_0.gguf", "b-Q5_0.gguf"], None, ["no GGUF of quant Q4_K_M", "a-Q8_0.gguf, b-Q5_0.gguf"]),
        (["a-Q8_0.gguf"], "b.gguf", ["no file b.gguf", "a-Q8_0.gguf"]),
        (["README.md"], None, ["it has no GGUF"]),
    ],
)
def test_none_or_several_candidates_are_listed(names: list[str], filename: str | None, told: list[str]) -> None:
    with pytest.raises(Unclear) as unclear:
        choose(names, "Q4_K_M", filename)
    assert all(part in str(unclear.value) for part in [*told, "set filename"])
    assert "c-Q8_0" not in str(unclear.value)


def test_a_filename_is_taken_whatever_its_quant() -> None:
    assert choose(["a-Q4_K_M.gguf", "b-F16.gguf"], "Q4_K_M", "b-F16.gguf") == ["b-F16.gguf"]


@pytest.mark.parametrize("filename", [None, *SHARDS])
def test_all_shards_are_one_model_in_order(filename: str | None) -> None:
    assert choose([*reversed(SHARDS), "other-Q8_0.gguf"], "Q4_K_M", filename) == SHARDS
    assert all(is_shard(path) for path in SHARDS)


def test_a_missing_shard_is_told() -> None:
    with pytest.raises(Unclear, match="has 2 of 3 shards of big/big-Q4_K_M"):
        choose(SHARDS[:2], "Q4_K_M", None)
