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

    /// @dev Bytes that will share one contract. `used` of `data` are filled.
    struct Buffer {
        bytes data;
        uint256 used;
    }

    /// @notice Creates a contract that holds `data`, 1..MAX_LENGTH bytes. 32,000 gas, and 200 per byte.
    function store(bytes memory data) internal {
        // The init code copies all that follows it into memory and returns it as the new code:
        // PUSH2 length, DUP1, PUSH1 10, PUSH0, CODECOPY, PUSH0, RETURN. These are 10 bytes; then STOP, then the data.
        bytes memory initCode = data.length > MAX_LENGTH
            ? bytes("")
            : bytes.concat(hex"61", bytes2(uint16(data.length + 1)), hex"80600a5f395ff3", hex"00", data);
        address created;
        assembly ("memory-safe") {
            if mload(initCode) { created := create(0, add(initCode, 32), mload(initCode)) }
        }
        if (created == address(0)) revert DataContractFailed(data.length);
    }

    /// @notice An empty buffer with room for `capacity` bytes, at most MAX_LENGTH.
    function newBuffer(uint256 capacity) internal pure returns (Buffer memory) {
        return Buffer({data: new bytes(capacity < MAX_LENGTH ? capacity : MAX_LENGTH), used: 0});
    }

    /// @notice Whether `length` more bytes fit.
    function fits(Buffer memory buffer, uint256 length) internal pure returns (bool) {
        return buffer.used + length <= buffer.data.length;
    }

    /// @notice Adds `data`, which must fit, and says where it begins.
    function append(Buffer memory buffer, bytes calldata data) internal pure returns (uint256 offset) {
        offset = buffer.used;
        bytes memory target = buffer.data;
        assembly ("memory-safe") {
            calldatacopy(add(add(target, 32), offset), data.offset, data.length)
        }
        buffer.used = offset + data.length;
    }

    /// @notice Stores what the buffer holds, at least one byte, and empties it.
    function flush(Buffer memory buffer) internal {
        bytes memory data = buffer.data;
        uint256 capacity = data.length;
        uint256 used = buffer.used;
        assembly ("memory-safe") {
            mstore(data, used)
        }
        store(data);
        assembly ("memory-safe") {
            mstore(data, capacity)
        }
        buffer.used = 0;
    }

    /// @notice Address of the contract that `creator` made with its `nonce`: the last 20 bytes of
    /// keccak256(rlp([creator, nonce])).
    function addressOf(address creator, uint32 nonce) internal pure returns (address) {
        // RLP: 0xc0 + length of what follows, 0x94 + creator, then the nonce without leading zero bytes; a nonce under
        // 0x80 is its own encoding, a longer one is preceded by 0x80 + its length. Contracts start at nonce 1, not 0.
        bytes memory list;
        if (nonce < 0x80) list = abi.encodePacked(hex"d694", creator, uint8(nonce));
        else if (nonce <= 0xff) list = abi.encodePacked(hex"d794", creator, hex"81", uint8(nonce));
        else if (nonce <= 0xffff) list = abi.encodePacked(hex"d894", creator, hex"82", uint16(nonce));
        else if (nonce <= 0xffffff) list = abi.encodePacked(hex"d994", creator, hex"83", uint24(nonce));
        else list = abi.encodePacked(hex"da94", creator, hex"84", nonce);
        return address(uint160(uint256(keccak256(list))));
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
}
