// SPDX-License-Identifier: AGPL-3.0-or-later
pragma solidity ^0.8.28;

import {DataContracts} from "../../src/lib/DataContracts.sol";
import {Test} from "../Test.sol";

/// @dev Makes the library's functions callable, and its contracts countable: it creates nothing else.
contract DataContractsUser {
    using DataContracts for DataContracts.Buffer;

    function store(bytes calldata data) external {
        DataContracts.store(data);
    }

    /// @dev Puts all items through one buffer.
    function storeAll(bytes[] calldata items, uint256 capacity, uint32 latestNonce)
        external
        returns (uint32[] memory nonces, uint256[] memory offsets)
    {
        nonces = new uint32[](items.length);
        offsets = new uint256[](items.length);
        DataContracts.Buffer memory buffer = DataContracts.newBuffer(capacity, latestNonce);
        for (uint256 i = 0; i < items.length; i++) {
            offsets[i] = buffer.append(items[i]);
            nonces[i] = buffer.nonce;
        }
        buffer.flush();
        buffer.flush();
    }

    function read(uint32 nonce, uint256 offset, uint256 length) external view returns (bytes memory) {
        return DataContracts.read(DataContracts.addressOf(address(this), nonce), offset, length);
    }

    function lengthOf(uint32 nonce) external view returns (uint256) {
        return DataContracts.lengthOf(DataContracts.addressOf(address(this), nonce));
    }

    function addressOf(address creator, uint32 nonce) external pure returns (address) {
        return DataContracts.addressOf(creator, nonce);
    }
}

contract DataContractsTest is Test {
    DataContractsUser private _user = new DataContractsUser();

    function test_store_keepsBytes() external {
        _user.store(hex"c0ffee");
        vm.assertEq(_user.lengthOf(1), 3, "length");
        vm.assertEq(_user.read(1, 0, 3), hex"c0ffee", "whole");
        vm.assertEq(_user.read(1, 1, 2), hex"ffee", "part");
        vm.assertEq(_user.addressOf(address(_user), 1).code, hex"00c0ffee", "code begins with STOP");
    }

    function test_store_keepsBytesThatBeginLikeReservedCode() external {
        // EIP-3541 refuses code that begins with 0xef; the leading STOP makes that any other byte.
        _user.store(hex"ef00");
        vm.assertEq(_user.read(1, 0, 2), hex"ef00", "payload");
    }

    function test_store_keepsLongest() external {
        bytes memory data = _bytes(1, DataContracts.MAX_LENGTH);
        _user.store(data);
        vm.assertEq(keccak256(_user.read(1, 0, data.length)), keccak256(data), "payload");
    }

    function test_store_revertsWithTooLong() external {
        bytes memory data = new bytes(DataContracts.MAX_LENGTH + 1);
        vm.expectRevert(abi.encodeWithSelector(DataContracts.DataContractFailed.selector, data.length));
        _user.store(data);
    }

    function test_store_revertsWithAddressTaken() external {
        // What the chain refuses to create can't be told apart from success by anything but the zero address.
        vm.etch(vm.computeCreateAddress(address(_user), 1), hex"00");
        vm.expectRevert(abi.encodeWithSelector(DataContracts.DataContractFailed.selector, 1));
        _user.store(hex"01");
    }

    function test_fuzz_store(bytes calldata data) external {
        vm.assume(data.length > 0 && data.length <= DataContracts.MAX_LENGTH);
        _user.store(data);
        vm.assertEq(_user.lengthOf(1), data.length, "length");
        vm.assertEq(_user.read(1, 0, data.length), data, "payload");
    }

    function test_append_sharesOneContract() external {
        bytes[] memory items = _items(3, 100);
        (uint32[] memory nonces, uint256[] memory offsets) = _user.storeAll(items, 300, 0);
        for (uint256 i = 0; i < 3; i++) {
            vm.assertEq(nonces[i], 1, "nonce");
            vm.assertEq(offsets[i], i * 100, "offset");
            vm.assertEq(_user.read(1, offsets[i], 100), items[i], "item");
        }
        vm.assertEq(_user.lengthOf(1), 300, "length");
        vm.assertEq(_user.addressOf(address(_user), 2).code.length, 0, "only one");
    }

    function test_append_opensAnotherContractWhenFull() external {
        bytes[] memory items = _items(8, 4096);
        (uint32[] memory nonces, uint256[] memory offsets) = _user.storeAll(items, 8 * 4096, 0);
        for (uint256 i = 0; i < 8; i++) {
            vm.assertEq(nonces[i], i < 5 ? 1 : 2, "five of 4096 fit into 24575");
            vm.assertEq(_user.read(nonces[i], offsets[i], 4096), items[i], "item");
        }
    }

    function test_flush_doesNothingWhenEmpty() external {
        _user.storeAll(new bytes[](0), 100, 0);
        vm.assertEq(_user.addressOf(address(_user), 1).code.length, 0, "no contract");
    }

    function test_fuzz_append(uint16[8] calldata lengths, uint256 capacity) external {
        bytes[] memory items = new bytes[](8);
        for (uint256 i = 0; i < 8; i++) {
            items[i] = _bytes(i, _bound(lengths[i], 1, 4096));
        }
        (uint32[] memory nonces, uint256[] memory offsets) = _user.storeAll(items, _bound(capacity, 4096, 40_000), 0);
        for (uint256 i = 0; i < 8; i++) {
            vm.assertEq(_user.read(nonces[i], offsets[i], items[i].length), items[i], "item");
        }
    }

    function test_addressOf_matchesAtEachLength() external view {
        uint32[11] memory nonces =
            [1, 0x7f, 0x80, 0xff, 0x100, 0xffff, 0x10000, 0xffffff, 0x1000000, 0x7fffffff, type(uint32).max];
        for (uint256 i = 0; i < nonces.length; i++) {
            vm.assertEq(
                _user.addressOf(address(this), nonces[i]), vm.computeCreateAddress(address(this), nonces[i]), "address"
            );
        }
    }

    function test_fuzz_addressOf(address creator, uint32 nonce) external view {
        vm.assume(nonce != 0);
        vm.assertEq(_user.addressOf(creator, nonce), vm.computeCreateAddress(creator, nonce), "address");
    }

    function _items(uint256 count, uint256 length) private pure returns (bytes[] memory items) {
        items = new bytes[](count);
        for (uint256 i = 0; i < count; i++) {
            items[i] = _bytes(i, length);
        }
    }
}
