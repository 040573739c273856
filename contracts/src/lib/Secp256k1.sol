// SPDX-License-Identifier: AGPL-3.0-or-later
pragma solidity ^0.8.28;

/// @title Public keys of the curve Ethereum and ECIES use (SEC 2, section 2.4.1).
library Secp256k1 {
    /// @dev The field's prime.
    uint256 private constant P = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEFFFFFC2F;

    /// @notice Whether `pubkey` is an uncompressed point: 0x04 || X || Y, 65 bytes, y² = x³ + 7 (mod P).
    function isUncompressedPoint(bytes calldata pubkey) internal pure returns (bool) {
        if (pubkey.length != 65 || pubkey[0] != 0x04) return false;
        uint256 x = uint256(bytes32(pubkey[1:33]));
        uint256 y = uint256(bytes32(pubkey[33:65]));
        if (x >= P || y >= P) return false;
        return mulmod(y, y, P) == addmod(mulmod(mulmod(x, x, P), x, P), 7, P);
    }
}
