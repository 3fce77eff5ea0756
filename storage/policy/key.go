package policy

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"golang.org/x/crypto/nacl/secretbox"
	"golang.org/x/crypto/scrypt"
)

// The types of a PEM block with an encrypted private key; cosign's older name too.
const (
	encryptedKey    = "ENCRYPTED SIGSTORE PRIVATE KEY"
	encryptedCosign = "ENCRYPTED COSIGN PRIVATE KEY"
)

// sealed is what is in such a block: a key of scrypt, by which the private key in
// PKCS #8 is locked.
type sealed struct {
	KDF struct {
		Name   string `json:"name"`
		Params struct {
			N int `json:"N"`
			R int `json:"r"`
			P int `json:"p"`
		} `json:"params"`
		Salt []byte `json:"salt"`
	} `json:"kdf"`
	Cipher struct {
		Name  string `json:"name"`
		Nonce []byte `json:"nonce"`
	} `json:"cipher"`
	Ciphertext []byte `json:"ciphertext"`
}

// errPassphrase hides which part of a key did not fit.
var errPassphrase = errors.New("the passphrase is wrong, or the key is damaged")

// LoadKey reads a private key to sign with.
func LoadKey(path string, passphrase []byte) (crypto.Signer, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read key: %w", err)
	}
	key, err := parsePrivate(data, passphrase)
	if err != nil {
		return nil, fmt.Errorf("cannot read key %q: %w", path, err)
	}
	return key, nil
}

func parsePrivate(data, passphrase []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("it is no PEM file")
	}
	der := block.Bytes
	switch block.Type {
	case "PRIVATE KEY":
	case encryptedKey, encryptedCosign:
		var err error
		if der, err = open(block.Bytes, passphrase); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("it is a %s, not a private key of sigstore", block.Type)
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errors.New("it is no private key in PKCS #8")
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("keys of type %T cannot sign", key)
	}
	return signer, nil
}

func open(data, passphrase []byte) ([]byte, error) {
	var s sealed
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, errPassphrase
	}
	p := s.KDF.Params
	if s.KDF.Name != "scrypt" || s.Cipher.Name != "nacl/secretbox" || len(s.Cipher.Nonce) != 24 {
		return nil, fmt.Errorf("it is locked with %s and %s, which are not known", s.KDF.Name, s.Cipher.Name)
	}
	if p.N > 1<<18 || p.R > 16 || p.P > 4 { // memory is N times r times 128 bytes
		return nil, errors.New("unlocking it would take too much memory")
	}
	secret, err := scrypt.Key(passphrase, s.KDF.Salt, p.N, p.R, p.P, 32)
	if err != nil {
		return nil, errPassphrase
	}
	der, ok := secretbox.Open(nil, s.Ciphertext, (*[24]byte)(s.Cipher.Nonce), (*[32]byte)(secret))
	if !ok {
		return nil, errPassphrase
	}
	return der, nil
}

// NewKey makes a pair of keys, PREFIX.private, locked by the passphrase, and
// PREFIX.pub. Neither may be there.
func NewKey(prefix string, passphrase []byte) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	var s sealed
	s.KDF.Name, s.Cipher.Name = "scrypt", "nacl/secretbox"
	s.KDF.Params.N, s.KDF.Params.R, s.KDF.Params.P = 1<<16, 8, 1
	s.KDF.Salt, s.Cipher.Nonce = make([]byte, 32), make([]byte, 24)
	rand.Read(s.KDF.Salt)
	rand.Read(s.Cipher.Nonce)
	secret, err := scrypt.Key(passphrase, s.KDF.Salt, s.KDF.Params.N, s.KDF.Params.R, s.KDF.Params.P, 32)
	if err != nil {
		return err
	}
	s.Ciphertext = secretbox.Seal(nil, der, (*[24]byte)(s.Cipher.Nonce), (*[32]byte)(secret))
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := writeNew(prefix+".private", &pem.Block{Type: encryptedKey, Bytes: text}, 0o600); err != nil {
		return err
	}
	if err := writeNew(prefix+".pub", &pem.Block{Type: "PUBLIC KEY", Bytes: public}, 0o644); err != nil {
		return errors.Join(err, os.Remove(prefix+".private"))
	}
	return nil
}

func writeNew(path string, block *pem.Block, mode os.FileMode) error {
	var text bytes.Buffer
	if err := pem.Encode(&text, block); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return fmt.Errorf("cannot write key: %w", err)
	}
	_, err = f.Write(text.Bytes())
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(fmt.Errorf("cannot write key: %w", err), os.Remove(path))
	}
	return nil
}
