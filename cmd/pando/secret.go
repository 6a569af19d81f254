package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"strings"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
	"github.com/pandodb/pando/internal/keyring"
)

// secretKeySize is the length of a secret key without what names its algorithm.
const secretKeySize = 32

// parseIdentity reads the secret key of an identity in one of the forms that users have:
// that of a key file, what DefraDB prints, hexadecimal digits of a named algorithm. Its
// errors tell nothing of what it read.
func parseIdentity(text, algorithm string) (ident.Key, error) {
	switch {
	case strings.Contains(text, "-----BEGIN"):
		return ident.ParseKeyText([]byte(text))
	case strings.HasPrefix(text, "{"):
		return parseDefraIdentity(text)
	case algorithm == "":
		return ident.Key{}, fault.Invalid.Errorf("there is no key as pando identity export writes it: for one in hexadecimal digits say --algorithm")
	}
	alg, err := parseAlgorithm(algorithm)
	if err != nil {
		return ident.Key{}, err
	}
	return parseHexKey(text, alg)
}

// parseDefraIdentity reads what "defradb identity new" prints.
func parseDefraIdentity(text string) (ident.Key, error) {
	var printed struct {
		PrivateKey, PublicKey, DID, KeyType string
	}
	if err := json.Unmarshal([]byte(text), &printed); err != nil || printed.PrivateKey == "" {
		return ident.Key{}, fault.Invalid.Errorf("there is JSON without a PrivateKey: want what DefraDB's identity new prints")
	}
	if printed.KeyType == "" {
		printed.KeyType = "secp256k1" // what older ones make
	}
	alg, err := parseAlgorithm(printed.KeyType)
	if err != nil {
		return ident.Key{}, fault.Invalid.Errorf("KeyType %.20q: want ed25519 or secp256k1", printed.KeyType)
	}
	key, err := parseHexKey(printed.PrivateKey, alg)
	if err != nil {
		return ident.Key{}, err
	}
	if printed.DID != "" && printed.DID != string(key.DID()) {
		return ident.Key{}, fault.Invalid.Errorf("the key is that of %s, and DID names %.80q: one of them is damaged", key.DID(), printed.DID)
	}
	return key, nil
}

func parseHexKey(text string, alg ident.Algorithm) (ident.Key, error) {
	raw, err := hex.DecodeString(strings.TrimPrefix(strings.TrimSpace(text), "0x"))
	var public []byte // many write it behind an Ed25519 key
	if err == nil && alg == ident.EdDSA && len(raw) == 2*secretKeySize {
		raw, public = raw[:secretKeySize], raw[secretKeySize:]
	}
	if err != nil || len(raw) != secretKeySize {
		return ident.Key{}, fault.Invalid.Errorf("that is no secret key for %s: want %d hexadecimal digits", algorithmName(alg), 2*secretKeySize)
	}
	key, err := ident.GenerateFrom(alg, bytes.NewReader(raw))
	if err != nil {
		return ident.Key{}, fault.Invalid.Errorf("that is no secret key for %s: it is outside the order of the curve", algorithmName(alg))
	}
	if public != nil && !strings.HasSuffix(string(key.Public()), string(public)) {
		return ident.Key{}, fault.Invalid.Errorf("the second half is not the public key of the first: one of them is damaged")
	}
	return key, nil
}

// isStoreKey tells the key of a store from that of an identity.
func isStoreKey(text string) bool {
	_, err := hex.DecodeString(text)
	return err == nil && len(text) == 2*keyring.StoreKeySize
}

func parseStoreKey(text string) (keyring.StoreKey, error) {
	raw, err := hex.DecodeString(strings.TrimSpace(text))
	if err != nil {
		return keyring.StoreKey{}, fault.Invalid.Errorf("that is no store key: want %d hexadecimal digits", 2*keyring.StoreKeySize)
	}
	return keyring.ParseStoreKey(raw)
}

// writeSecret writes a new file that is its owner's alone. It gives Exists rather than
// write over a secret.
func writeSecret(name string, text []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fault.Exists.Errorf("%s exists already: name a new file", name)
	}
	if err != nil {
		return fileFault(err)
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(name)
		return fileFault(err)
	}
	return nil
}
