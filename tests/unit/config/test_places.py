import pytest
from pydantic import TypeAdapter, ValidationError

from pipeline.config.places import Place
from pipeline.config.prep.paths import FilePath

WITHOUT_SECRET = [
    "data/corpus",
    "/data/a:b@c",
    "s3://bucket/corpus",
    "gs://bucket/a:b@c",
    "https://host:8080/corpus@1",
    "https://host:8080",
    "abfs://container@account.dfs.core.windows.net/corpus",
    "hf://datasets/user/name@main/corpus",
    "file:///data/corpus",
]
WITH_USER = [
    "s3://key:secret@bucket/corpus",
    "s3://key:se/cr+et@bucket/corpus",
    "s3://key:@bucket",
    "simplecache::s3://key:secret@bucket/corpus",
    "https://token@host/corpus",
    "http://user:password@host:80/corpus",
    "ftp://user:password@host/corpus",
]


@pytest.mark.parametrize("place", [*WITHOUT_SECRET, "https://host/corpus?$SIGNATURE", "https://host/c?${SIGNATURE}"])
def test_places_are_as_they_are(place: str) -> None:
    assert TypeAdapter(Place).validate_python(place) == place
    assert TypeAdapter(FilePath).validate_python(place) == place


@pytest.mark.parametrize("kind", [Place, FilePath])
@pytest.mark.parametrize("place", WITH_USER)
def test_a_user_in_a_url_is_refused(kind: object, place: str) -> None:
    with pytest.raises(ValidationError, match=r"take it out and give it in the environment, for S3 as AWS_ACCESS"):
        TypeAdapter(kind).validate_python(place)


@pytest.mark.parametrize("place", ["https://host/corpus?X-Signature=a", "http://host/?a@b", "https://host/c?$A&b=$B"])
def test_a_query_is_refused_where_it_would_be_written_down(place: str) -> None:
    with pytest.raises(ValidationError, match="put it into an environment variable"):
        TypeAdapter(Place).validate_python(place)
