// SPDX-License-Identifier: AGPL-3.0-or-later
pragma solidity ^0.8.28;

import {BrokerRegistry} from "../src/BrokerRegistry.sol";
import {IBrokerRegistry} from "../src/interfaces/IBrokerRegistry.sol";
import {Test} from "./Test.sol";

contract BrokerRegistryTest is Test {
    bytes private constant PUBKEY =
        hex"0479be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8";
    /// @dev The key of 32 times 0x11.
    bytes private constant OTHER_PUBKEY =
        hex"044f355bdcb7cc0af728ef3cceb9615d90684bb5b2ca5f859ab0f0b704075871aa385b6b1b8ead809ca67454d9683fcf2ba03456d6fe2c4abe2b07f0fbdbb2f1c1";

    address private _operator = _wallet("operator");
    address private _other = _wallet("other");
    address private _contractA = _wallet("requests A");
    address private _contractB = _wallet("requests B");
    BrokerRegistry private _registry;

    function setUp() external {
        vm.warp(1_770_000_000);
        _registry = new BrokerRegistry();
    }

    // ---- registerBroker

    function test_registerBroker_storesAndTells() external {
        vm.expectEmit(address(_registry));
        emit IBrokerRegistry.BrokerRegistered(1, _operator, _contractA, "eu-west");
        vm.assertEq(_registry.registerBroker(_operator, _contractA, PUBKEY, "eu-west", 255), 1, "first id");
        IBrokerRegistry.Broker memory b = _registry.getBroker(1);
        vm.assertEq(b.operator, _operator, "operator");
        vm.assertEq(b.requestsContract, _contractA, "requestsContract");
        vm.assertEq(b.encryptionPubkey, PUBKEY, "pubkey");
        vm.assertEq(b.region, "eu-west", "region");
        vm.assertTrue(b.active, "active");
        vm.assertEq(b.capacity, 255, "capacity");
        vm.assertEq(b.currentLoad, 0, "load");
        vm.assertEq(b.registeredAt, 1_770_000_000, "registeredAt");
        vm.assertEq(_registry.getBrokerCount(), 1, "count");
        vm.assertTrue(_registry.isOperator(_operator), "isOperator");
        vm.assertFalse(_registry.isOperator(_other), "not isOperator");
        vm.assertEq(_registry.operatorToBrokerId(_operator), 1, "by operator");
        vm.assertEq(_registry.requestsContractToBrokerId(_contractA), 1, "by contract");
    }

    function test_registerBroker_supersedesOwnEntry() external {
        _register(_operator, _contractA);
        vm.expectEmit(address(_registry));
        emit IBrokerRegistry.BrokerDeactivated(1, _operator);
        vm.assertEq(_register(_operator, _contractB), 2, "id");
        vm.assertFalse(_registry.getBroker(1).active, "the old one");
        vm.assertEq(_registry.getBroker(1).operator, _operator, "keeps its operator for the record");
        vm.assertTrue(_registry.getBroker(2).active, "the new one");
        vm.assertEq(_registry.operatorToBrokerId(_operator), 2, "the operator runs the new one");
        vm.assertEq(_registry.requestsContractToBrokerId(_contractA), 1, "the old contract stays taken");
        vm.prank(_operator);
        _registry.updateRegion("eu-east");
        vm.assertEq(_registry.getBroker(2).region, "eu-east", "the operator changes the new one");
    }

    function test_registerBroker_reverts() external {
        _register(_operator, _contractA);
        vm.expectRevert(abi.encodeWithSelector(IBrokerRegistry.ZeroAddress.selector));
        _register(address(0), _contractB);
        vm.expectRevert(abi.encodeWithSelector(IBrokerRegistry.ZeroAddress.selector));
        _register(_other, address(0));
        vm.expectRevert(abi.encodeWithSelector(IBrokerRegistry.RequestsContractTaken.selector, _contractA, 1));
        _register(_operator, _contractA);
        vm.expectRevert(abi.encodeWithSelector(IBrokerRegistry.InvalidPubkey.selector, bytes(hex"04")));
        _registry.registerBroker(_other, _contractB, hex"04", "", 0);
        vm.prank(_operator);
        vm.expectRevert(_unauthorized(_operator));
        _register(_operator, _contractB);
    }

    function test_fuzz_registerBroker(address operator, address requests, string calldata region, uint256 capacity)
        external
    {
        vm.assume(operator != address(0) && requests != address(0));
        uint256 id = _registry.registerBroker(operator, requests, PUBKEY, region, capacity);
        IBrokerRegistry.Broker memory b = _registry.getBroker(id);
        vm.assertEq(b.operator, operator, "operator");
        vm.assertEq(b.requestsContract, requests, "contract");
        vm.assertEq(b.region, region, "region");
        vm.assertEq(b.capacity, capacity, "capacity");
    }

    // ---- what an operator changes

    function test_updates_tell() external {
        _register(_operator, _contractA);
        vm.startPrank(_operator);
        _expectUpdated();
        _registry.updateEncryptionPubkey(OTHER_PUBKEY);
        _expectUpdated();
        _registry.updateRegion("us");
        _expectUpdated();
        _registry.updateCapacity(7);
        vm.expectEmit(address(_registry));
        emit IBrokerRegistry.BrokerLoadUpdated(1, 5);
        _registry.updateLoad(5);
        IBrokerRegistry.Broker memory b = _registry.getBroker(1);
        vm.assertEq(b.encryptionPubkey, OTHER_PUBKEY, "pubkey");
        vm.assertEq(b.region, "us", "region");
        vm.assertEq(b.capacity, 7, "capacity");
        vm.assertEq(b.currentLoad, 5, "load");
    }

    function test_updates_revert() external {
        _register(_operator, _contractA);
        vm.startPrank(_operator);
        bytes memory hybrid = bytes.concat(hex"06", _part(PUBKEY, 1, 64));
        vm.expectRevert(abi.encodeWithSelector(IBrokerRegistry.InvalidPubkey.selector, hybrid));
        _registry.updateEncryptionPubkey(hybrid);
        vm.expectRevert(abi.encodeWithSelector(IBrokerRegistry.EmptyRegion.selector));
        _registry.updateRegion("");
        _registry.updateCapacity(7);
        vm.expectRevert(abi.encodeWithSelector(IBrokerRegistry.LoadAboveCapacity.selector, 8, 7));
        _registry.updateLoad(8);
        _registry.updateLoad(7);
        _registry.updateCapacity(0);
        _registry.updateLoad(type(uint256).max);
        _registry.updateCapacity(1);
        vm.assertEq(_registry.getBroker(1).capacity, 1, "below the load means full");
    }

    function test_updates_revertForOthers() external {
        _register(_operator, _contractA);
        bytes[] memory calls = new bytes[](8);
        calls[0] = abi.encodeCall(IBrokerRegistry.updateEncryptionPubkey, (PUBKEY));
        calls[1] = abi.encodeCall(IBrokerRegistry.updateRegion, ("us"));
        calls[2] = abi.encodeCall(IBrokerRegistry.updateCapacity, (1));
        calls[3] = abi.encodeCall(IBrokerRegistry.updateLoad, (1));
        calls[4] = abi.encodeCall(IBrokerRegistry.updateRequestsContract, (_contractB));
        calls[5] = abi.encodeCall(IBrokerRegistry.rotateOperator, (_other));
        calls[6] = abi.encodeCall(IBrokerRegistry.deactivate, ());
        calls[7] = abi.encodeCall(IBrokerRegistry.activate, ());
        for (uint256 i = 0; i < calls.length; i++) {
            (bool ok, bytes memory returned) = address(_registry).call(calls[i]);
            bytes memory expected = abi.encodeWithSelector(IBrokerRegistry.NotOperator.selector, address(this));
            _assertRevert(ok, returned, expected, "the registry's owner is no operator");
        }
    }

    function test_fuzz_updateEncryptionPubkey(uint256 index, bytes1 value) external {
        // No other point of the curve differs from this one in a single byte.
        bytes memory pubkey = bytes.concat(OTHER_PUBKEY);
        index = _bound(index, 0, 64);
        bool same = pubkey[index] == value;
        pubkey[index] = value;
        _register(_operator, _contractA);
        vm.prank(_operator);
        (bool ok,) = address(_registry).call(abi.encodeCall(IBrokerRegistry.updateEncryptionPubkey, (pubkey)));
        vm.assertEq(ok ? 1 : 0, same ? 1 : 0, "only the point itself");
        vm.assertEq(_registry.getBroker(1).encryptionPubkey, ok ? pubkey : PUBKEY, "pubkey");
    }

    function test_fuzz_updateRegion(string calldata region) external {
        vm.assume(bytes(region).length > 0);
        _register(_operator, _contractA);
        vm.prank(_operator);
        _registry.updateRegion(region);
        vm.assertEq(_registry.getBroker(1).region, region, "region");
    }

    function test_fuzz_updateCapacity(uint256 capacity) external {
        _register(_operator, _contractA);
        vm.prank(_operator);
        _registry.updateCapacity(capacity);
        vm.assertEq(_registry.getBroker(1).capacity, capacity, "capacity");
    }

    function test_fuzz_updateLoad(uint256 load, uint256 capacity) external {
        _register(_operator, _contractA);
        vm.startPrank(_operator);
        _registry.updateCapacity(capacity);
        (bool ok,) = address(_registry).call(abi.encodeCall(IBrokerRegistry.updateLoad, (load)));
        vm.assertEq(ok ? 1 : 0, capacity == 0 || load <= capacity ? 1 : 0, "at most the capacity");
        vm.assertEq(_registry.getBroker(1).currentLoad, ok ? load : 0, "load");
    }

    // ---- updateRequestsContract

    function test_updateRequestsContract_moves() external {
        _register(_operator, _contractA);
        vm.prank(_operator);
        _expectUpdated();
        _registry.updateRequestsContract(_contractB);
        vm.assertEq(_registry.getBroker(1).requestsContract, _contractB, "contract");
        vm.assertEq(_registry.requestsContractToBrokerId(_contractB), 1, "by contract");
        vm.assertEq(_registry.requestsContractToBrokerId(_contractA), 0, "the former one is free");
        _register(_other, _contractA);
    }

    function test_updateRequestsContract_reverts() external {
        _register(_operator, _contractA);
        _register(_other, _contractB);
        vm.startPrank(_operator);
        vm.expectRevert(abi.encodeWithSelector(IBrokerRegistry.ZeroAddress.selector));
        _registry.updateRequestsContract(address(0));
        vm.expectRevert(abi.encodeWithSelector(IBrokerRegistry.RequestsContractTaken.selector, _contractB, 2));
        _registry.updateRequestsContract(_contractB);
        vm.expectRevert(abi.encodeWithSelector(IBrokerRegistry.RequestsContractTaken.selector, _contractA, 1));
        _registry.updateRequestsContract(_contractA);
    }

    function test_fuzz_updateRequestsContract(address to) external {
        vm.assume(to != address(0) && to != _contractA);
        _register(_operator, _contractA);
        vm.prank(_operator);
        _registry.updateRequestsContract(to);
        vm.assertEq(_registry.requestsContractToBrokerId(to), 1, "by contract");
    }

    // ---- rotateOperator

    function test_rotateOperator_hands() external {
        _register(_operator, _contractA);
        vm.prank(_operator);
        vm.expectEmit(address(_registry));
        emit IBrokerRegistry.OperatorRotated(1, _operator, _other);
        _registry.rotateOperator(_other);
        vm.assertEq(_registry.getBroker(1).operator, _other, "operator");
        vm.assertFalse(_registry.isOperator(_operator), "the former one");
        vm.prank(_other);
        _registry.updateCapacity(9);
        vm.prank(_operator);
        vm.expectRevert(abi.encodeWithSelector(IBrokerRegistry.NotOperator.selector, _operator));
        _registry.updateCapacity(8);
    }

    function test_rotateOperator_reverts() external {
        _register(_operator, _contractA);
        _register(_other, _contractB);
        vm.startPrank(_operator);
        vm.expectRevert(abi.encodeWithSelector(IBrokerRegistry.ZeroAddress.selector));
        _registry.rotateOperator(address(0));
        vm.expectRevert(abi.encodeWithSelector(IBrokerRegistry.OperatorTaken.selector, _other, 2));
        _registry.rotateOperator(_other);
        vm.expectRevert(abi.encodeWithSelector(IBrokerRegistry.OperatorTaken.selector, _operator, 1));
        _registry.rotateOperator(_operator);
    }

    function test_fuzz_rotateOperator(address to) external {
        vm.assume(to != address(0) && to != _operator);
        _register(_operator, _contractA);
        vm.prank(_operator);
        _registry.rotateOperator(to);
        vm.assertEq(_registry.operatorToBrokerId(to), 1, "the new one");
        vm.assertEq(_registry.operatorToBrokerId(_operator), 0, "the former one");
    }

    // ---- deactivate, activate

    function test_activate_undoesDeactivate() external {
        _register(_operator, _contractA);
        vm.startPrank(_operator);
        vm.expectEmit(address(_registry));
        emit IBrokerRegistry.BrokerDeactivated(1, _operator);
        _registry.deactivate();
        vm.assertFalse(_registry.getBroker(1).active, "inactive");
        vm.assertTrue(_registry.isOperator(_operator), "still the operator");
        vm.expectEmit(address(_registry));
        emit IBrokerRegistry.BrokerActivated(1, _operator);
        _registry.activate();
        vm.assertTrue(_registry.getBroker(1).active, "active");
    }

    function test_fuzz_activate(bool[6] calldata on) external {
        _register(_operator, _contractA);
        vm.startPrank(_operator);
        for (uint256 i = 0; i < 6; i++) {
            if (on[i]) _registry.activate();
            else _registry.deactivate();
            vm.assertEq(_registry.getBroker(1).active ? 1 : 0, on[i] ? 1 : 0, "the last word counts");
        }
    }

    // ---- removeBroker

    function test_removeBroker_retires() external {
        _register(_operator, _contractA);
        vm.expectEmit(address(_registry));
        emit IBrokerRegistry.BrokerRemoved(1, _operator);
        _registry.removeBroker(1);
        IBrokerRegistry.Broker memory b = _registry.getBroker(1);
        vm.assertEq(b.operator, address(0), "operator");
        vm.assertFalse(b.active, "inactive");
        vm.assertEq(b.requestsContract, _contractA, "the slot is kept");
        vm.assertEq(_registry.getBrokerCount(), 1, "count");
        vm.assertFalse(_registry.isOperator(_operator), "no operator");
        vm.assertEq(_registry.requestsContractToBrokerId(_contractA), 0, "by contract");
        vm.assertEq(_register(_operator, _contractA), 2, "both may register again");
    }

    function test_removeBroker_reverts() external {
        _register(_operator, _contractA);
        vm.prank(_operator);
        vm.expectRevert(_unauthorized(_operator));
        _registry.removeBroker(1);
        vm.expectRevert(abi.encodeWithSelector(IBrokerRegistry.InvalidBrokerId.selector, 0));
        _registry.removeBroker(0);
        vm.expectRevert(abi.encodeWithSelector(IBrokerRegistry.InvalidBrokerId.selector, 2));
        _registry.removeBroker(2);
        _registry.removeBroker(1);
        vm.expectRevert(abi.encodeWithSelector(IBrokerRegistry.BrokerAlreadyRemoved.selector, 1));
        _registry.removeBroker(1);
        // So an entry that took over the contract's address is safe from it.
        _register(_operator, _contractA);
        vm.expectRevert(abi.encodeWithSelector(IBrokerRegistry.BrokerAlreadyRemoved.selector, 1));
        _registry.removeBroker(1);
    }

    function test_fuzz_removeBroker(uint8 count, uint8 removed) external {
        // One operator moves from entry to entry; removing any but the last leaves it the last.
        uint256 last = _bound(count, 1, 6);
        for (uint256 i = 1; i <= last; i++) {
            _register(_operator, address(uint160(0x1000 + i)));
        }
        uint256 gone = _bound(removed, 1, last);
        _registry.removeBroker(gone);
        vm.assertEq(_registry.operatorToBrokerId(_operator), gone == last ? 0 : last, "the live entry");
        vm.assertEq(_registry.getBroker(last).active ? 1 : 0, gone == last ? 0 : 1, "active");
    }

    // ---- the rest

    function test_getBroker_revertsWithInvalidBrokerId() external {
        vm.expectRevert(abi.encodeWithSelector(IBrokerRegistry.InvalidBrokerId.selector, 0));
        _registry.getBroker(0);
        vm.expectRevert(abi.encodeWithSelector(IBrokerRegistry.InvalidBrokerId.selector, 1));
        _registry.getBroker(1);
    }

    function test_transferOwnership_needsAcceptance() external {
        _registry.transferOwnership(_other);
        _register(_operator, _contractA);
        vm.prank(_other);
        _registry.acceptOwnership();
        vm.assertEq(_registry.owner(), _other, "now");
        vm.expectRevert(_unauthorized(address(this)));
        _register(_operator, _contractB);
    }

    function _register(address operator, address requestsContract) private returns (uint256) {
        return _registry.registerBroker(operator, requestsContract, PUBKEY, "eu-west", 0);
    }

    function _expectUpdated() private {
        vm.expectEmit(address(_registry));
        emit IBrokerRegistry.BrokerUpdated(1, _operator);
    }

    function _part(bytes memory data, uint256 start, uint256 length) private pure returns (bytes memory part) {
        part = new bytes(length);
        for (uint256 i = 0; i < length; i++) {
            part[i] = data[start + i];
        }
    }

    function _unauthorized(address caller) private pure returns (bytes memory) {
        return abi.encodeWithSignature("OwnableUnauthorizedAccount(address)", caller);
    }
}
