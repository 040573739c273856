// SPDX-License-Identifier: AGPL-3.0-or-later
pragma solidity ^0.8.28;

import {IBrokerRequests} from "../src/interfaces/IBrokerRequests.sol";
import {BrokerRequestsFixture} from "./BrokerRequestsFixture.sol";
import {EchoNft, PlainNft} from "./Nfts.sol";

/// @dev Expiry, settings, money, ownership and views of BrokerRequests; the rest is in BrokerRequests.t.sol.
contract BrokerRequestsAdminTest is BrokerRequestsFixture {
    // ---- markExpired

    function test_markExpired_endsWhatIsOutOfTime() external {
        _submit();
        vm.warp(START + 24 hours + 1);
        vm.expectEmit(address(_requests));
        emit IBrokerRequests.RequestExpired(1);
        vm.prank(_stranger);
        _requests.markExpired(_ids(1));
        _assertStatus(1, IBrokerRequests.RequestStatus.Expired, "status");
        vm.assertEq(_requests.getRequest(1).respondedAt, START + 24 hours + 1, "closed now");
        vm.assertEq(_mapped(_nft), 0, "mapping");
        vm.assertEq(_requests.releaseCount(), 0, "no release");
        _assertCounts(0, 0, "none");
    }

    function test_markExpired_ignoresTheRest() external {
        _submit(); // 1: in time until the last second
        _submitOther(); // 2: answered
        _respond(2);
        vm.warp(START + 24 hours);
        vm.recordLogs();
        _requests.markExpired(_ids(1, 2));
        _requests.markExpired(_ids(0, 3));
        _requests.markExpired(_ids(type(uint256).max));
        _requests.markExpired(new uint256[](0));
        vm.assertEq(vm.getRecordedLogs().length, 0, "no event");
        _assertCounts(1, 1, "as before");
        vm.warp(START + 30 days);
        _requests.markExpired(_ids(1, 2));
        _requests.markExpired(_ids(1, 1));
        vm.assertEq(vm.getRecordedLogs().length, 1, "once, and never what was answered");
        _assertCounts(0, 1, "the answered one is live");
    }

    function test_markExpired_isBounded() external {
        _requests.markExpired(new uint256[](256));
        vm.expectRevert(abi.encodeWithSelector(IBrokerRequests.TooManyIds.selector, 257, 256));
        _requests.markExpired(new uint256[](257));
    }

    function test_fuzz_markExpired(uint256[8] calldata ids, uint256 delay) external {
        for (uint256 i = 0; i < 4; i++) {
            _submitOther();
        }
        delay = _bound(delay, 0, 48 hours);
        vm.warp(START + delay);
        uint256[] memory list = new uint256[](8);
        bool[5] memory named;
        for (uint256 i = 0; i < 8; i++) {
            list[i] = i < 4 ? ids[i] : _bound(ids[i], 0, 4);
            if (list[i] <= 4) named[list[i]] = true;
        }
        _requests.markExpired(list);
        for (uint256 id = 1; id <= 4; id++) {
            bool expired = _requests.getRequest(id).status == IBrokerRequests.RequestStatus.Expired;
            vm.assertEq(expired ? 1 : 0, named[id] && delay > 24 hours ? 1 : 0, "those named, when out of time");
        }
    }

    // ---- settings

    function test_setRequestExpirationTime_appliesToWaitingRequests() external {
        vm.assertEq(_requests.requestExpirationTime(), 24 hours, "at first");
        _submit();
        vm.prank(_broker);
        _requests.setRequestExpirationTime(1 hours);
        vm.assertEq(_requests.requestExpirationTime(), 1 hours, "set");
        vm.warp(START + 1 hours + 1);
        vm.prank(_broker);
        vm.expectRevert(abi.encodeWithSelector(IBrokerRequests.RequestOutOfTime.selector, 1, START + 1 hours));
        _requests.submitResponse(1, RESPONSE);
        vm.prank(_broker);
        _requests.setRequestExpirationTime(7 days);
        _respond(1);
    }

    function test_setRequestExpirationTime_reverts() external {
        vm.expectRevert(_unauthorized(address(this)));
        _requests.setRequestExpirationTime(1 days);
        vm.startPrank(_broker);
        vm.expectRevert(_invalidExpiration(1 hours - 1));
        _requests.setRequestExpirationTime(1 hours - 1);
        vm.expectRevert(_invalidExpiration(7 days + 1));
        _requests.setRequestExpirationTime(7 days + 1);
    }

    function test_fuzz_setRequestExpirationTime(uint256 expirationTime) external {
        vm.prank(_broker);
        (bool ok,) = address(_requests).call(abi.encodeCall(IBrokerRequests.setRequestExpirationTime, (expirationTime)));
        bool valid = expirationTime >= 1 hours && expirationTime <= 7 days;
        vm.assertEq(ok ? 1 : 0, valid ? 1 : 0, "1 hour to 7 days");
        vm.assertEq(_requests.requestExpirationTime(), valid ? expirationTime : 24 hours, "kept");
    }

    function test_setTotalCapacity_tellsWhatIsLeft() external {
        vm.assertEq(_requests.getAvailableCapacity(), type(uint256).max, "unlimited");
        vm.prank(_broker);
        _requests.setTotalCapacity(2);
        vm.assertEq(_requests.getAvailableCapacity(), 2, "all");
        _submit();
        _submitOther();
        _respond(1);
        vm.assertEq(_requests.getAvailableCapacity(), 0, "none");
        vm.prank(_broker);
        _requests.setTotalCapacity(1);
        vm.assertEq(_requests.getAvailableCapacity(), 0, "less than none is none");
        vm.assertEq(_requests.totalCapacity(), 1, "set");
        vm.expectRevert(_unauthorized(address(this)));
        _requests.setTotalCapacity(1);
    }

    function test_fuzz_setTotalCapacity(uint256 capacity, uint8 live) external {
        live = uint8(_bound(live, 0, 5));
        for (uint256 i = 0; i < live; i++) {
            _submitOther();
        }
        vm.prank(_broker);
        _requests.setTotalCapacity(capacity);
        uint256 left = capacity == 0 ? type(uint256).max : capacity > live ? capacity - live : 0;
        vm.assertEq(_requests.getAvailableCapacity(), left, "left");
    }

    function test_setRequestFee_tells() external {
        vm.expectEmit(address(_requests));
        emit IBrokerRequests.RequestFeeChanged(7);
        vm.prank(_broker);
        _requests.setRequestFee(7);
        vm.assertEq(_requests.requestFee(), 7, "set");
        vm.expectRevert(_unauthorized(address(this)));
        _requests.setRequestFee(1);
    }

    function test_fuzz_setRequestFee(uint256 fee) external {
        vm.prank(_broker);
        _requests.setRequestFee(fee);
        vm.assertEq(_requests.requestFee(), fee, "set");
    }

    // ---- money

    function test_withdraw_sendsAll() external {
        address payable to = payable(_wallet("bank"));
        // Also what was forced in without asking.
        vm.deal(address(_requests), 9);
        vm.expectEmit(address(_requests));
        emit IBrokerRequests.FeesWithdrawn(to, 9);
        vm.prank(_broker);
        _requests.withdraw(to);
        vm.assertEq(to.balance, 9, "received");
        vm.assertEq(address(_requests).balance, 0, "nothing stays");
    }

    function test_withdraw_reverts() external {
        vm.expectRevert(_unauthorized(address(this)));
        _requests.withdraw(payable(_stranger));
        vm.deal(address(_requests), 3);
        address payable refuser = payable(address(new EchoNft("no", true)));
        vm.startPrank(_broker);
        vm.expectRevert(abi.encodeWithSelector(IBrokerRequests.ZeroAddress.selector));
        _requests.withdraw(payable(address(0)));
        vm.expectRevert(abi.encodeWithSelector(IBrokerRequests.WithdrawFailed.selector, refuser, 3));
        _requests.withdraw(refuser);
    }

    function test_fuzz_withdraw(uint96 fee, uint8 count) external {
        vm.prank(_broker);
        _requests.setRequestFee(fee);
        count = uint8(_bound(count, 0, 5));
        for (uint256 i = 0; i < count; i++) {
            vm.deal(_host, fee);
            vm.prank(_host);
            _requests.submitRequest{value: fee}(address(_nft), PAYLOAD);
        }
        address payable to = payable(_wallet("bank"));
        vm.prank(_broker);
        _requests.withdraw(to);
        vm.assertEq(to.balance, uint256(fee) * count, "all fees");
    }

    function test_receive_refusesPlainEth() external {
        vm.deal(_host, 1);
        vm.prank(_host);
        (bool ok,) = address(_requests).call{value: 1}("");
        vm.assertFalse(ok, "only submitRequest takes ETH");
    }

    // ---- ownership

    function test_transferOwnership_needsAcceptance() external {
        vm.assertEq(_requests.owner(), _broker, "the deployer");
        vm.prank(_broker);
        _requests.transferOwnership(_stranger);
        vm.assertEq(_requests.owner(), _broker, "not yet");
        vm.prank(_stranger);
        _requests.acceptOwnership();
        vm.assertEq(_requests.owner(), _stranger, "now");
        _submit();
        vm.prank(_stranger);
        _requests.submitResponse(1, RESPONSE);
    }

    function test_transferOwnership_reverts() external {
        vm.expectRevert(_unauthorized(address(this)));
        _requests.transferOwnership(_stranger);
        vm.expectRevert(_unauthorized(address(this)));
        _requests.acceptOwnership();
    }

    function test_fuzz_transferOwnership(address to) external {
        vm.prank(_broker);
        _requests.transferOwnership(to);
        vm.assertEq(_requests.pendingOwner(), to, "pending");
        vm.assertEq(_requests.owner(), _broker, "not yet");
        // Sharing slots with the two owners, the counters must not move.
        _submit();
        _respond(1);
        vm.assertEq(_requests.pendingOwner(), to, "pending");
        vm.assertEq(_requests.owner(), _broker, "not yet");
        vm.prank(to);
        _requests.acceptOwnership();
        vm.assertEq(_requests.owner(), to, "now");
        _assertCounts(0, 1, "as before");
    }

    function test_renounceOwnership_reverts() external {
        vm.expectRevert(_unauthorized(address(this)));
        _requests.renounceOwnership();
        vm.prank(_broker);
        vm.expectRevert(abi.encodeWithSelector(IBrokerRequests.OwnerRequired.selector));
        _requests.renounceOwnership();
    }

    // ---- views

    function test_getRequest_revertsWithInvalidRequestId() external {
        _submit();
        vm.expectRevert(abi.encodeWithSelector(IBrokerRequests.InvalidRequestId.selector, 0));
        _requests.getRequest(0);
        vm.expectRevert(abi.encodeWithSelector(IBrokerRequests.InvalidRequestId.selector, 2));
        _requests.getRequest(2);
        vm.expectRevert(abi.encodeWithSelector(IBrokerRequests.InvalidRequestId.selector, 2));
        _requests.requestDigest(2);
        vm.expectRevert();
        _requests.requests(1);
        vm.expectRevert();
        _requests.requesterToRequestIds(_host, 1);
    }

    function test_requests_isGetRequestByIndex() external {
        _submit();
        _submitOther();
        _respond(2);
        (bool ok, bytes memory flat) = address(_requests).call(abi.encodeCall(IBrokerRequests.requests, (1)));
        vm.assertTrue(ok, "answers");
        // A struct with dynamic members is its flat members behind one offset.
        vm.assertEq(abi.encodePacked(uint256(32), flat), abi.encode(_requests.getRequest(2)), "same");
    }

    function test_requesterToRequestIds_listsAll() external {
        for (uint256 i = 0; i < 20; i++) {
            _submit();
        }
        for (uint256 i = 0; i < 20; i++) {
            vm.assertEq(_requests.requesterToRequestIds(_host, i), i + 1, "oldest first");
        }
    }

    function test_requestDigest_bindsEverything() external {
        _submit();
        bytes32 digest = _requests.requestDigest(1);
        bytes32 payloadHash = keccak256(abi.encodePacked(hex"00", PAYLOAD));
        vm.assertEq(
            digest,
            keccak256(abi.encode(block.chainid, address(_requests), uint256(1), _host, address(_nft), payloadHash)),
            "the documented formula"
        );
        _respond(1);
        vm.assertEq(_requests.requestDigest(1), digest, "an answer does not change it");
        _submit();
        vm.assertEq(_requests.requestDigest(1), digest, "nor does its end");
        vm.assertTrue(_requests.requestDigest(2) != digest, "the same content under another id");
        vm.chainId(block.chainid + 1);
        vm.assertTrue(_requests.requestDigest(1) != digest, "another chain");
    }

    function test_storage_answersTouchOneSlotOfTheirs() external {
        _submit();
        bytes32 slot1 = vm.load(address(_requests), bytes32(uint256(1)));
        _respond(1);
        // Slot 0, from the low end: owner (20 bytes), active (5), data contracts (4), expiration time (3).
        uint256 expected = uint256(uint160(_broker)) | 1 << 160 | 2 << 200 | 24 hours << 232;
        vm.assertEq(uint256(vm.load(address(_requests), 0)), expected, "slot 0");
        vm.assertEq(vm.load(address(_requests), bytes32(uint256(1))), slot1, "an answer leaves slot 1 alone");
    }

    function test_counters_keepTheirBounds() external {
        // Slot 1: pending owner, submitted (4 bytes), closed (4), released (4). The id after the last can't be made.
        uint256 full = uint256(type(uint32).max) << 160 | uint256(type(uint32).max) << 192;
        vm.store(address(_requests), bytes32(uint256(1)), bytes32(full));
        PlainNft nft = new PlainNft(_host);
        vm.prank(_host);
        vm.expectRevert(abi.encodeWithSignature("Panic(uint256)", 0x11));
        _requests.submitRequest(address(nft), PAYLOAD);
    }

    function _invalidExpiration(uint256 given) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IBrokerRequests.InvalidExpirationTime.selector, given, 1 hours, 7 days);
    }
}
