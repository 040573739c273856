// SPDX-License-Identifier: AGPL-3.0-or-later
pragma solidity ^0.8.28;

/// @title Bytes kept as the code of small contracts.
/// @notice A word of storage costs 22,100 gas, 32 bytes of code 6,400 (plus 32,000 for each contract), and several
/// values may share one contract. The code is 0x00 (STOP: it can't be run) followed by the bytes.
///
/// A contract made with CREATE lives at an address that follows from its maker and the maker's nonce. So what is kept
/// to find it again is that nonce (4 bytes), not the address (20). The maker must create nothing else.
library DataContracts {
    /// @dev EIP-170 limits code to 24,576 bytes; one is the leading STOP.
    uint256 internal constant MAX_LENGTH = 24_575;

    /// @dev The chain refused to create the contract: too long, or out of gas.
    error DataContractFailed(uint256 length);

    /// @dev Bytes on their way into as few contracts as possible. `used` of `data` are filled; `nonce` is of the contract
    /// they will share.
    struct Buffer {
        bytes data;
        uint256 used;
        uint32 nonce;
    }

    /// @notice Creates a contract that holds `data`, 1..MAX_LENGTH bytes. 32,000 gas, and 200 per byte.
    function store(bytes memory data) internal {
        _create(data, data.length);
    }

    /// @notice An empty buffer for `length` bytes in all, of a contract whose latest nonce is `nonce`.
    function newBuffer(uint256 length, uint32 nonce) internal pure returns (Buffer memory) {
        uint256 capacity = length < MAX_LENGTH ? length : MAX_LENGTH;
        bytes memory data;
        assembly ("memory-safe") {
            // As `new bytes(capacity)` but not zeroed, since all that leaves the buffer was written to it.
            data := mload(0x40)
            mstore(data, capacity)
            mstore(0x40, and(add(add(data, capacity), 63), not(31)))
        }
        return Buffer({data: data, used: 0, nonce: nonce});
    }

    /// @notice Adds `data`, 1..MAX_LENGTH bytes, and says where it begins in the contract `buffer.nonce`.
    /// If there is no room left, what the buffer holds is stored first.
    function append(Buffer memory buffer, bytes calldata data) internal returns (uint256 offset) {
        bytes memory target = buffer.data;
        if (buffer.used + data.length > target.length) flush(buffer);
        offset = buffer.used;
        if (offset == 0) buffer.nonce++;
        assembly ("memory-safe") {
            calldatacopy(add(add(target, 32), offset), data.offset, data.length)
        }
        buffer.used = offset + data.length;
    }

    /// @notice Stores what the buffer holds, if anything, and empties it.
    function flush(Buffer memory buffer) internal {
        if (buffer.used == 0) return;
        _create(buffer.data, buffer.used);
        buffer.used = 0;
    }

    /// @notice Address of the contract that `creator` made with its `nonce`: the last 20 bytes of
    /// keccak256(rlp([creator, nonce])).
    function addressOf(address creator, uint32 nonce) internal pure returns (address created) {
        // In RLP a number below 0x80 is its own; a greater one comes without leading zero bytes after 0x80 + its length.
        uint256 size = nonce < 0x80 ? 1 : nonce <= 0xff ? 2 : nonce <= 0xffff ? 3 : nonce <= 0xffffff ? 4 : 5;
        unchecked {
            uint256 item = size == 1 ? nonce : (0x7f + size) << (8 * size - 8) | nonce;
            // A list of two: 0xc0 + length of what follows, 0x80 + 20, the creator's 20 bytes, the nonce's 1 to 5.
            uint256 list = (((0xc0 + 21 + size) << 168 | 0x94 << 160 | uint160(creator)) << 8 * size) | item;
            assembly ("memory-safe") {
                mstore(0, list)
                // The last 22 + size bytes of the word.
                created := shr(96, shl(96, keccak256(sub(10, size), add(22, size))))
            }
        }
    }

    /// @notice Number of bytes `holder` holds.
    function lengthOf(address holder) internal view returns (uint256) {
        return holder.code.length - 1;
    }

    /// @notice `length` bytes from `offset` of what `holder` holds.
    function read(address holder, uint256 offset, uint256 length) internal view returns (bytes memory data) {
        data = new bytes(length);
        assembly ("memory-safe") {
            extcodecopy(holder, add(data, 32), add(offset, 1), length)
        }
    }

    /// @dev Creates a contract that holds the first `length` bytes of `data`.
    function _create(bytes memory data, uint256 length) private {
        if (length > MAX_LENGTH) revert DataContractFailed(length);
        // Init code that copies all that follows its 10 bytes into memory and returns it as the code; then STOP:
        // PUSH2 length+1, DUP1, PUSH1 10, PUSH0, CODECOPY, PUSH0, RETURN, STOP.
        uint256 prefix = 0x61_0000_80_600a_5f_39_5f_f3_00 | (length + 1) << 64;
        address created;
        assembly ("memory-safe") {
            // The 11 bytes take the place of the end of the array's length word for a moment.
            let word := mload(data)
            mstore(data, prefix)
            created := create(0, add(data, 21), add(length, 11))
            mstore(data, word)
        }
        if (created == address(0)) revert DataContractFailed(length);
    }
}
