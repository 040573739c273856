/**
 * Messages of the broker's wire format with every random choice pinned, made with the Rust and Python implementations of the first
 * generation. Whoever speaks the protocol must reproduce them byte for byte.
 */

/** The broker's ECIES private key, 32 bytes. */
export const brokerPrivateKey = new Uint8Array(32).fill(0x11)
/** The host's ECIES private key (`server.key`), 32 bytes. */
export const serverPrivateKey = new Uint8Array(32).fill(0x22)
/** What the sender drew: one-time key and nonce of both messages. */
export const pinned = {
  ephemeralPrivateKey: new Uint8Array(32).fill(0x33),
  nonce: Uint8Array.from({ length: 16 }, (_, i) => i),
}

/** Public key of {@link brokerPrivateKey}, uncompressed, hex. */
export const brokerPublicKeyHex =
  '044f355bdcb7cc0af728ef3cceb9615d90684bb5b2ca5f859ab0f0b704075871aa385b6b1b8ead809ca67454d9683fcf2ba03456d6fe2c4a' +
  'be2b07f0fbdbb2f1c1'
/** Public key of {@link serverPrivateKey}, uncompressed, hex. */
export const serverPublicKeyHex =
  '04466d7fcae563e5cb09a0d1870bb580344804617879a14949cf22285f1bae3f276728176c3c6431f8eeda4538dc37c865e2784f3a9e77d0' +
  '44f33e407797e1278a'
/** Public key of the pinned one-time key, uncompressed, hex. */
export const ephemeralPublicKeyHex =
  '043c72addb4fdf09af94f0c94d7fe92a386a7e70cf8a1d85916386bb2535c7b1b13b306b0fe085665d8fc1b28ae1676cd3ad6e08eaeda225' +
  'fe38d0da4de55703e0'

/** A WireGuard public key, base64: bytes 0 to 31. */
export const wgPublicKey = 'AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8='

/** What the host asks, as Python writes it (271 bytes). */
export const requestText = `{"wgPubkey": "${wgPublicKey}", "nftContract": "0x0000000000000000000000000000000000000001", "serverPubkey": "${serverPublicKeyHex}"}`
/** AES-256 key of the request, hex. */
export const requestKeyHex = '70aa56249252792cad9e0b637b2d119377cda9805b1a399b0bb3185a2cb38688'
/** The request on chain (368 bytes), hex. */
export const requestHex =
  '043c72addb4fdf09af94f0c94d7fe92a386a7e70cf8a1d85916386bb2535c7b1b13b306b0fe085665d8fc1b28ae1676cd3ad6e08eaeda225' +
  'fe38d0da4de55703e0000102030405060708090a0b0c0d0e0f2bc2b6dc209d7eb94c15f9f249cef1ca43f05f08000844428768d2686b9470' +
  'c9b28f1d78b4e00de15de48a608d04f7f437f9ba19c10fc4ff3c4bdff58f738b7bab51662612133ba83f0eb38e96c1637dcaf5492e2f40cb' +
  '80d41f87b85b8ea7935fc6af4f0e900cd5ea3ade02bca45c0832881d9447fd26a9ed830e1727e798873e205f7eacd12d86235c29381e43a1' +
  'a8d7ac9225fc2f18f24170fc1fea4cde84954c30da1708c6c471a06a0342c480aaf2a82d09019b3fe6c661f93d45d7d10ba1d9cbd67f4825' +
  '9d4daa65f61287d2ff0f011e9e4ccb34a5a943de696b632dac9c16210103ec1aa92d0102882bed57c860f913abd93ca8779f50734317ff0e' +
  'def2385cd2af580878a9cd721b6871d315da8fa524ee62a4418b6e4f19eb6350'
/** SHA-256 of the request on chain, hex. */
export const requestSha256Hex = 'd61f715747362bcd3ca65e9bf3002aa65ea56caaac3ee6d0a5d651676f5a21d6'

/** What the broker answers, as serde writes it (162 bytes). */
export const responseText = `{"prefix":"2001:db8:1:2::100/120","gateway":"2001:db8:1:2::2","brokerPubkey":"${wgPublicKey}","brokerEndpoint":"198.51.100.1:51820"}`
/** The request that the answer names. */
export const responseRequestId = 7n
/** AES-256 key of the answer, hex. */
export const responseKeyHex = 'd41d857b284f3a2732fec3c2b985c2bec8b6be60292d8585c27cf0c6702b0fc4'
/** The answer on chain: request id (8 bytes), then the message (267 bytes in all), hex. */
export const responseHex =
  '0000000000000007043c72addb4fdf09af94f0c94d7fe92a386a7e70cf8a1d85916386bb2535c7b1b13b306b0fe085665d8fc1b28ae1676c' +
  'd3ad6e08eaeda225fe38d0da4de55703e0000102030405060708090a0b0c0d0e0f64f309915b35aa52469cb56efb8a5779cdb0580abfa471' +
  'f16e7eda6c09ef094d83b88070b82a89e3c2ca60edcdd0aa2e1fa4bc7b219f6c36106c64a305250d3e22de1a11a8462c783b59e3a921135b' +
  '5fdde87707f735f2c07d64ad98dbb6d460565764f7718e065fded5e06f0bf157b34928cdeafa2d29bca2e162594e81610bcd47d2e0ca7d88' +
  '11052e9c5d27972985c29689911fa08439d8405f8047d238eff519817ba885c3ed559c7ea16415262ab767'
/** SHA-256 of the answer on chain, hex. */
export const responseSha256Hex = '0d5d18b39bbb7997effbbf2d1a2ec131140de7d9ace8aa480cc57bbba6685ef1'
