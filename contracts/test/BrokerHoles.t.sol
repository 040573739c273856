// SPDX-License-Identifier: AGPL-3.0-or-later
pragma solidity ^0.8.28;

import {BrokerRegistry} from "../src/BrokerRegistry.sol";
import {IBrokerRegistry} from "../src/interfaces/IBrokerRegistry.sol";
import {IBrokerRequests} from "../src/interfaces/IBrokerRequests.sol";
import {BrokerRequestsFixture} from "./BrokerRequestsFixture.sol";
import {EchoNft, PlainNft} from "./Nfts.sol";
import {BrokerRegistryV1} from "./legacy/BrokerRegistryV1.sol";
import {BrokerRegistryV2} from "./legacy/BrokerRegistryV2.sol";
import {BrokerRequestsV1} from "./legacy/BrokerRequestsV1.sol";
import {BrokerRequestsV2} from "./legacy/BrokerRequestsV2.sol";

/// @dev Each defect of the generations in the field: first seen in the contract that stands in for them, then closed.
contract BrokerHolesTest is BrokerRequestsFixture {
    bytes private constant PUBKEY =
        hex"0479be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8";

    BrokerRequestsV1 private _v1;
    BrokerRequestsV2 private _v2;

    function setUp() public override {
        super.setUp();
        vm.startPrank(_broker);
        _v1 = new BrokerRequestsV1();
        _v2 = new BrokerRequestsV2();
        vm.stopPrank();
    }

    function test_hole_deadRequestLocksTheNft() external {
        vm.startPrank(_host);
        _v1.submitRequest(address(_nft), PAYLOAD);
        vm.warp(START + 30 days);
        vm.expectRevert("NFT contract already has a request");
        _v1.submitRequest(address(_nft), PAYLOAD);
        vm.stopPrank();

        _submit();
        vm.assertEq(_submit(), 2, "a host may ask again at any time");
    }

    function test_hole_hostCannotReleaseItsOwn() external {
        vm.startPrank(_host);
        _v2.submitRequest(address(_nft), PAYLOAD);
        vm.expectRevert(_unauthorized(_host));
        _v2.releaseAllocation(address(_nft));
        vm.stopPrank();

        _submit();
        _release(_host);
        vm.assertEq(_mapped(_nft), 0, "released");
    }

    function test_hole_releaseIsSilent() external {
        vm.prank(_host);
        _v1.submitRequest(address(_nft), PAYLOAD);
        vm.recordLogs();
        vm.prank(_broker);
        _v1.releaseAllocation(address(_nft));
        vm.assertEq(vm.getRecordedLogs().length, 0, "no event");

        _submit();
        vm.recordLogs();
        _release(_broker);
        vm.assertEq(vm.getRecordedLogs().length, 1, "an event");
        vm.assertEq(_requests.releaseCount(), 1, "and a count that grows with it");
    }

    function test_hole_releasedRequestIsStillApproved() external {
        vm.prank(_host);
        _v1.submitRequest(address(_nft), PAYLOAD);
        vm.startPrank(_broker);
        _v1.releaseAllocation(address(_nft));
        _v1.submitResponse(1, RESPONSE);
        vm.stopPrank();
        vm.assertEq(uint256(_v1.getRequest(1).status), 1, "approved without being mapped");

        _submit();
        _release(_host);
        vm.prank(_broker);
        vm.expectRevert(
            abi.encodeWithSelector(IBrokerRequests.RequestNotPending.selector, 1, IBrokerRequests.RequestStatus.Expired)
        );
        _requests.submitResponse(1, RESPONSE);
    }

    function test_hole_expiryWipesNewerMapping() external {
        vm.prank(_host);
        _v1.submitRequest(address(_nft), PAYLOAD);
        vm.prank(_broker);
        _v1.releaseAllocation(address(_nft));
        vm.warp(START + 23 hours);
        vm.prank(_host);
        _v1.submitRequest(address(_nft), PAYLOAD);
        vm.warp(START + 25 hours);
        _v1.markExpired(_ids(1));
        vm.assertEq(_v1.nftContractToRequestId(address(_nft)), 0, "the newer request lost its place");

        vm.warp(START);
        _submit();
        _release(_broker);
        vm.warp(START + 23 hours);
        _submit();
        vm.warp(START + 25 hours);
        _requests.markExpired(_ids(1));
        vm.assertEq(_mapped(_nft), 2, "the newer request keeps its place");
    }

    function test_hole_expiryCountsDownTwice() external {
        vm.prank(_host);
        _v2.submitRequest(address(_nft), PAYLOAD);
        vm.prank(_broker);
        _v2.releaseAllocation(address(_nft));
        vm.warp(START + 25 hours);
        vm.expectRevert(abi.encodeWithSignature("Panic(uint256)", 0x11));
        _v2.markExpired(_ids(1));

        vm.warp(START);
        _submit();
        _submitOther();
        _release(_broker);
        vm.warp(START + 25 hours);
        _requests.markExpired(_ids(1));
        _assertCounts(1, 0, "the other one is still pending");
    }

    function test_hole_capacityIsAdvice() external {
        vm.prank(_broker);
        _v2.setTotalCapacity(1);
        PlainNft other = new PlainNft(_host);
        vm.startPrank(_host);
        _v2.submitRequest(address(_nft), PAYLOAD);
        _v2.submitRequest(address(other), PAYLOAD);
        vm.stopPrank();
        vm.assertEq(_v2._pendingCount(), 2, "more than the capacity");

        vm.prank(_broker);
        _requests.setTotalCapacity(1);
        _submit();
        vm.prank(_host);
        vm.expectRevert(abi.encodeWithSelector(IBrokerRequests.CapacityExhausted.selector, 1));
        _requests.submitRequest(address(other), PAYLOAD);
    }

    function test_hole_payloadsAreUnbounded() external {
        vm.prank(_host);
        _v1.submitRequest(address(_nft), new bytes(20_000));
        vm.assertEq(_v1.getRequest(1).encryptedPayload.length, 20_000, "accepted");

        vm.prank(_host);
        vm.expectRevert(abi.encodeWithSelector(IBrokerRequests.InvalidPayloadLength.selector, 20_000, 4096));
        _requests.submitRequest(address(_nft), new bytes(20_000));
    }

    function test_hole_answerOfDroppedRequestLandsOnAnother() external {
        // The broker read request 1 of _nft. A reorg drops it, and another host's gets its id.
        PlainNft other = new PlainNft(_stranger);
        uint256 before = vm.snapshotState();
        _submit();
        bytes32 digest = _requests.requestDigest(1);
        vm.revertToState(before);
        vm.prank(_stranger);
        _v1.submitRequest(address(other), PAYLOAD);
        vm.prank(_broker);
        _v1.submitResponse(1, RESPONSE);
        vm.assertEq(uint256(_v1.getRequest(1).status), 1, "approved with what was made for someone else");

        _submit(other, PAYLOAD);
        bytes[] memory responses = new bytes[](1);
        responses[0] = RESPONSE;
        vm.expectEmit(address(_requests));
        emit IBrokerRequests.ResponseSkipped(1);
        _respondMany(_ids(1), _digests(digest), responses);
        _assertStatus(1, IBrokerRequests.RequestStatus.Pending, "the other host's request waits for its own answer");
    }

    function test_hole_requestsCostNothing() external {
        // Whoever deploys a few bytes may ask. The earlier contracts can't charge; the broker's gas is spent for free.
        EchoNft sybil = new EchoNft(abi.encode(1), false);
        vm.prank(address(1));
        _v2.submitRequest(address(sybil), PAYLOAD);

        vm.prank(_broker);
        _requests.setRequestFee(0.001 ether);
        vm.prank(address(1));
        vm.expectRevert(abi.encodeWithSelector(IBrokerRequests.WrongFee.selector, 0, 0.001 ether));
        _requests.submitRequest(address(sybil), PAYLOAD);
    }

    function test_hole_removingSupersededEntryLocksOperatorOut() external {
        BrokerRegistryV2 old = new BrokerRegistryV2();
        old.registerBroker(_broker, address(1), PUBKEY, "", 0);
        old.registerBroker(_broker, address(2), PUBKEY, "", 0);
        old.removeBroker(1);
        vm.assertFalse(old.isOperator(_broker), "locked out of the live entry");

        BrokerRegistry registry = new BrokerRegistry();
        registry.registerBroker(_broker, address(1), PUBKEY, "", 0);
        registry.registerBroker(_broker, address(2), PUBKEY, "", 0);
        registry.removeBroker(1);
        vm.assertEq(registry.operatorToBrokerId(_broker), 2, "still runs the live entry");
        vm.assertTrue(registry.getBroker(2).active, "which is active");
        vm.prank(_broker);
        registry.updateCapacity(5);
    }

    function test_hole_anyPubkeyOf65BytesIsTaken() external {
        bytes memory nonsense = new bytes(65);
        BrokerRegistryV1 old = new BrokerRegistryV1();
        old.registerBroker(_broker, address(1), nonsense, "", 0);

        BrokerRegistry registry = new BrokerRegistry();
        vm.expectRevert(abi.encodeWithSelector(IBrokerRegistry.InvalidPubkey.selector, nonsense));
        registry.registerBroker(_broker, address(1), nonsense, "", 0);
    }

    function test_hole_expiryLoopIsUnbounded() external {
        _v1.markExpired(new uint256[](10_000));
        vm.expectRevert(abi.encodeWithSelector(IBrokerRequests.TooManyIds.selector, 10_000, 256));
        _requests.markExpired(new uint256[](10_000));
    }

    function test_hole_greatCapacityIsFine() external {
        // Earlier daemons pushed the theoretical 2^56 of a /64 cut into /120.
        vm.prank(_broker);
        _requests.setTotalCapacity(2 ** 56);
        _submit();
        vm.assertEq(_requests.getAvailableCapacity(), 2 ** 56 - 1, "left");
    }
}
