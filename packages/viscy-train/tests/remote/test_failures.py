"""Failures: the line that a user sees for an error of a server."""

import pytest

from viscy_train.remote.failures import explain
from viscy_train.remote.url import parse_url


@pytest.mark.parametrize(
    "key", ["credentials/a.csv", "gene_Signature/a.csv", "AccessDenied 2/a.csv", "NoSuchBucket/PermanentRedirect.csv"]
)
def test_words_in_the_name_of_an_object_are_not_taken_for_the_reason(key):
    message = f"Error performing GET http://host/bucket/{key.replace(' ', '%20')} - status code: 500 of {key}"
    found = str(explain(RuntimeError(message), parse_url(f"s3://bucket/{key}")))
    assert found.startswith(f"cannot read s3://bucket/{key}: Error performing GET")


def test_what_a_server_says_of_the_keys_is_not_shown():
    body = "<Error><Code>InternalError</Code><AWSAccessKeyId>secret</AWSAccessKeyId></Error>"
    assert "secret" not in str(explain(RuntimeError(f"status code: 500: {body}"), parse_url("s3://bucket/a")))
