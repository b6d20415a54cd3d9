"""The text of a key, and its hash."""

from service.keys.key_text import hash_of, id_of, is_text_of, new_secret, shown_prefix


def test_key_has_256_random_bits_after_the_prefix_that_identifies_it() -> None:
    secret = new_secret()
    assert secret.text.startswith(f"{shown_prefix(secret.key_id)}_")
    assert len(secret.text.removeprefix(f"{shown_prefix(secret.key_id)}_")) == 43  # base64 of 32 bytes
    assert id_of(secret.text) == secret.key_id
    assert len({new_secret().text for _ in range(100)}) == 100


def test_stored_hash_belongs_to_one_text_only() -> None:
    secret, other = new_secret(), new_secret()
    assert secret.text not in secret.secret_hash
    assert is_text_of(secret.secret_hash, secret.text)
    assert not is_text_of(secret.secret_hash, other.text)
    assert not is_text_of(secret.secret_hash, secret.secret_hash)
    assert hash_of("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # FIPS 180-4


def test_text_with_another_form_has_no_id() -> None:
    text = new_secret().text
    for wrong in ("", text[:-1], text + "a", text.upper(), text + "\n", " " + text, text.replace("pyr_", "key_")):
        assert id_of(wrong) is None
