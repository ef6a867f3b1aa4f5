from sklearn_ext.utils._shared_docs import with_shared_docs


def test_a_named_part_is_filled_in_and_other_braces_stay():
    class Documented:
        r"""Options are {"a", "b"}.

        {common}
        """

    decorated = with_shared_docs({"common": "\n    x : int\n        A number.\n", "no": ""})(
        Documented
    )
    assert decorated is Documented
    assert '{"a", "b"}' in decorated.__doc__
    assert "x : int\n        A number." in decorated.__doc__
    assert "{common}" not in decorated.__doc__
