// SPDX-License-Identifier: AGPL-3.0-or-later
pragma solidity ^0.8.28;

import {IBrokerRequests} from "../src/interfaces/IBrokerRequests.sol";
import {BrokerRequestsFixture} from "./BrokerRequestsFixture.sol";
import {BurnNft, EchoNft, OtherTokenNft, PlainNft, ReentrantNft} from "./Nfts.sol";
import {Vm} from "./Test.sol";

contract BrokerRequestsTest is BrokerRequestsFixture {
    // ---- submitRequest

    function test_submitRequest_storesAndTells() external {
        vm.expectEmit(address(_requests));
        emit IBrokerRequests.RequestSubmitted(1, _host, address(_nft), PAYLOAD);
        vm.assertEq(_submit(), 1, "first id");

        IBrokerRequests.Request memory r = _requests.getRequest(1);
        vm.assertEq(r.id, 1, "id");
        vm.assertEq(r.requester, _host, "requester");
        vm.assertEq(r.nftContract, address(_nft), "nftContract");
        vm.assertEq(r.encryptedPayload, PAYLOAD, "payload");
        vm.assertEq(uint256(r.status), 0, "Pending");
        vm.assertEq(r.responsePayload, "", "no response");
        vm.assertEq(r.submittedAt, START, "submittedAt");
        vm.assertEq(r.respondedAt, 0, "respondedAt");
        vm.assertEq(_mapped(_nft), 1, "mapping");
        vm.assertEq(_requests.getRequestCount(), 1, "count");
        vm.assertEq(_requests.requesterToRequestIds(_host, 0), 1, "of the requester");
        _assertCounts(1, 0, "one pending");
    }

    function test_submitRequest_supersedesPending() external {
        _submit();
        vm.warp(START + 10);
        vm.expectEmit(address(_requests));
        emit IBrokerRequests.RequestExpired(1);
        vm.assertEq(_submit(_nft, hex"04"), 2, "id");
        _assertStatus(1, IBrokerRequests.RequestStatus.Expired, "the older one");
        vm.assertEq(_requests.getRequest(1).respondedAt, START + 10, "closed when superseded");
        vm.assertEq(_mapped(_nft), 2, "mapping");
        _assertCounts(1, 0, "one pending");
    }

    function test_submitRequest_supersedesApproved() external {
        _submit();
        _respond(1);
        _submit();
        _assertStatus(1, IBrokerRequests.RequestStatus.Expired, "the older one");
        vm.assertEq(_requests.getRequest(1).responsePayload, RESPONSE, "its answer stays readable");
        _assertCounts(1, 0, "one pending");
    }

    function test_submitRequest_supersedesOfFormerOwner() external {
        _submit();
        _nft.setOwner(_stranger);
        _submit();
        vm.assertEq(_requests.getRequest(2).requester, _stranger, "requester");
        vm.assertEq(_mapped(_nft), 2, "mapping");
        vm.assertEq(_requests.requesterToRequestIds(_stranger, 0), 2, "of the new owner");
    }

    function test_submitRequest_revertsWithPayloadLength() external {
        vm.startPrank(_host);
        vm.expectRevert(abi.encodeWithSelector(IBrokerRequests.InvalidPayloadLength.selector, 0, 4096));
        _requests.submitRequest(address(_nft), "");
        vm.expectRevert(abi.encodeWithSelector(IBrokerRequests.InvalidPayloadLength.selector, 4097, 4096));
        _requests.submitRequest(address(_nft), new bytes(4097));
        _requests.submitRequest(address(_nft), new bytes(4096));
        vm.assertEq(_requests.getRequest(1).encryptedPayload, new bytes(4096), "the longest");
    }

    function test_submitRequest_revertsWithZeroAddress() external {
        vm.expectRevert(abi.encodeWithSelector(IBrokerRequests.ZeroAddress.selector));
        _requests.submitRequest(address(0), PAYLOAD);
    }

    function test_submitRequest_revertsWithNotErc721() external {
        address other = address(new OtherTokenNft(_host));
        vm.startPrank(_host);
        vm.expectRevert(abi.encodeWithSelector(IBrokerRequests.NotErc721.selector, _stranger));
        _requests.submitRequest(_stranger, PAYLOAD);
        vm.expectRevert(abi.encodeWithSelector(IBrokerRequests.NotErc721.selector, other));
        _requests.submitRequest(other, PAYLOAD);
    }

    function test_submitRequest_revertsWithNotNftOwner() external {
        vm.prank(_stranger);
        vm.expectRevert(abi.encodeWithSelector(IBrokerRequests.NotNftOwner.selector, _stranger, _host));
        _requests.submitRequest(address(_nft), PAYLOAD);
        // A contract that says yes to everything, with 32 bytes that are no address.
        address yes = address(new EchoNft(abi.encode(1, 1), false));
        vm.prank(address(1));
        vm.expectRevert(abi.encodeWithSelector(IBrokerRequests.NotNftOwner.selector, address(1), address(0)));
        _requests.submitRequest(yes, PAYLOAD);
    }

    function test_submitRequest_revertsWithHostileNft() external {
        address burner = address(new BurnNft());
        vm.prank(_host);
        vm.expectRevert(abi.encodeWithSelector(IBrokerRequests.NotErc721.selector, burner));
        _requests.submitRequest{gas: 500_000}(burner, PAYLOAD);
    }

    function test_submitRequest_cannotBeReentered() external {
        ReentrantNft nft = new ReentrantNft(_requests);
        vm.expectRevert(abi.encodeWithSelector(IBrokerRequests.NotNftOwner.selector, address(nft), address(0)));
        nft.ask();
        vm.assertEq(_requests.getRequestCount(), 0, "nothing was written");
    }

    function test_submitRequest_takesExactFee() external {
        vm.prank(_broker);
        _requests.setRequestFee(5);
        vm.deal(_host, 100);
        vm.startPrank(_host);
        vm.expectRevert(abi.encodeWithSelector(IBrokerRequests.WrongFee.selector, 0, 5));
        _requests.submitRequest(address(_nft), PAYLOAD);
        vm.expectRevert(abi.encodeWithSelector(IBrokerRequests.WrongFee.selector, 6, 5));
        _requests.submitRequest{value: 6}(address(_nft), PAYLOAD);
        _requests.submitRequest{value: 5}(address(_nft), PAYLOAD);
        vm.assertEq(address(_requests).balance, 5, "the fee");
    }

    function test_submitRequest_takesNothingWhenFree() external {
        vm.deal(_host, 1);
        vm.prank(_host);
        vm.expectRevert(abi.encodeWithSelector(IBrokerRequests.WrongFee.selector, 1, 0));
        _requests.submitRequest{value: 1}(address(_nft), PAYLOAD);
    }

    function test_submitRequest_enforcesCapacity() external {
        vm.prank(_broker);
        _requests.setTotalCapacity(2);
        _submit();
        _respond(1);
        _submitOther();
        PlainNft third = new PlainNft(_host);
        vm.prank(_host);
        vm.expectRevert(abi.encodeWithSelector(IBrokerRequests.CapacityExhausted.selector, 2));
        _requests.submitRequest(address(third), PAYLOAD);
        vm.assertEq(_submit(), 3, "one that supersedes its own needs no place");
        _release(_host);
        vm.assertEq(_submit(third, PAYLOAD), 4, "a released place is free");
    }

    function test_fuzz_submitRequest(bytes calldata payload, address requester, uint96 fee) external {
        vm.assume(payload.length > 0 && payload.length <= 4096 && requester != address(0));
        vm.prank(_broker);
        _requests.setRequestFee(fee);
        _nft.setOwner(requester);
        vm.deal(requester, fee);
        vm.prank(requester);
        uint256 id = _requests.submitRequest{value: fee}(address(_nft), payload);
        IBrokerRequests.Request memory r = _requests.getRequest(id);
        vm.assertEq(r.requester, requester, "requester");
        vm.assertEq(r.encryptedPayload, payload, "payload");
        vm.assertEq(_requests.requestDigest(id), _digestOf(id), "digest");
        vm.assertEq(address(_requests).balance, fee, "fee");
    }

    // ---- submitResponse

    function test_submitResponse_approvesAndTells() external {
        _submit();
        vm.warp(START + 30);
        vm.expectEmit(address(_requests));
        emit IBrokerRequests.ResponseSubmitted(1, IBrokerRequests.RequestStatus.Approved, RESPONSE);
        _respond(1);
        IBrokerRequests.Request memory r = _requests.getRequest(1);
        vm.assertEq(uint256(r.status), 1, "Approved");
        vm.assertEq(r.responsePayload, RESPONSE, "response");
        vm.assertEq(r.respondedAt, START + 30, "respondedAt");
        vm.assertEq(r.encryptedPayload, PAYLOAD, "payload");
        vm.assertEq(_mapped(_nft), 1, "mapping");
        _assertCounts(0, 1, "one active");
    }

    function test_submitResponse_takesLastSecond() external {
        _submit();
        vm.warp(START + 24 hours);
        _respond(1);
        vm.assertEq(_requests.getRequest(1).respondedAt, START + 24 hours, "respondedAt");
    }

    function test_submitResponse_reverts() external {
        _submit();
        vm.prank(_host);
        vm.expectRevert(_unauthorized(_host));
        _requests.submitResponse(1, RESPONSE);
        vm.startPrank(_broker);
        vm.expectRevert(abi.encodeWithSelector(IBrokerRequests.InvalidPayloadLength.selector, 0, 4096));
        _requests.submitResponse(1, "");
        vm.expectRevert(abi.encodeWithSelector(IBrokerRequests.InvalidPayloadLength.selector, 4097, 4096));
        _requests.submitResponse(1, new bytes(4097));
        vm.expectRevert(abi.encodeWithSelector(IBrokerRequests.InvalidRequestId.selector, 0));
        _requests.submitResponse(0, RESPONSE);
        vm.expectRevert(abi.encodeWithSelector(IBrokerRequests.InvalidRequestId.selector, 2));
        _requests.submitResponse(2, RESPONSE);
        vm.warp(START + 24 hours + 1);
        vm.expectRevert(abi.encodeWithSelector(IBrokerRequests.RequestOutOfTime.selector, 1, START + 24 hours));
        _requests.submitResponse(1, RESPONSE);
    }

    function test_submitResponse_revertsWithRequestNotPending() external {
        _submit();
        _respond(1);
        vm.prank(_broker);
        vm.expectRevert(_notPending(1, IBrokerRequests.RequestStatus.Approved));
        _requests.submitResponse(1, RESPONSE);
        _submit();
        vm.prank(_broker);
        vm.expectRevert(_notPending(1, IBrokerRequests.RequestStatus.Expired));
        _requests.submitResponse(1, RESPONSE);
    }

    function test_fuzz_submitResponse(bytes calldata response, uint256 delay) external {
        vm.assume(response.length > 0 && response.length <= 4096);
        _submit();
        delay = _bound(delay, 0, 24 hours);
        vm.warp(START + delay);
        _respond(1, response);
        IBrokerRequests.Request memory r = _requests.getRequest(1);
        vm.assertEq(r.responsePayload, response, "response");
        vm.assertEq(r.respondedAt, START + delay, "respondedAt");
        vm.assertEq(r.encryptedPayload, PAYLOAD, "payload");
    }

    // ---- submitResponses

    function test_submitResponses_answersMany() external {
        for (uint256 i = 0; i < 20; i++) {
            _submitOther();
        }
        vm.warp(START + 7);
        bytes[] memory responses = _responses(20, 277);
        vm.recordLogs();
        _respondMany(_idsFrom(1, 20), responses);
        vm.assertEq(vm.getRecordedLogs().length, 20, "one event each");
        for (uint256 id = 1; id <= 20; id++) {
            IBrokerRequests.Request memory r = _requests.getRequest(id);
            vm.assertEq(r.responsePayload, responses[id - 1], "response");
            vm.assertEq(r.respondedAt, START + 7, "respondedAt");
            _assertStatus(id, IBrokerRequests.RequestStatus.Approved, "status");
        }
        _assertCounts(0, 20, "all active");
        // They share one data contract, and the next thing stored gets the next.
        vm.assertEq(vm.computeCreateAddress(address(_requests), 21).code.length, 1 + 20 * 277, "shared");
        _submitOther();
        vm.assertEq(_requests.getRequest(21).encryptedPayload, PAYLOAD, "stored after");
    }

    function test_submitResponses_splitsWhatIsTooLongForOne() external {
        for (uint256 i = 0; i < 12; i++) {
            _submitOther();
        }
        bytes[] memory responses = _responses(12, 4096);
        _respondMany(_idsFrom(1, 12), responses);
        for (uint256 id = 1; id <= 12; id++) {
            vm.assertEq(_requests.getRequest(id).responsePayload, responses[id - 1], "response");
        }
        _submitOther();
        vm.assertEq(_requests.getRequest(13).encryptedPayload, PAYLOAD, "stored after");
    }

    function test_submitResponses_tellsLikeSubmitResponse() external {
        _submit();
        bytes[] memory responses = _responses(1, 277);
        bytes32[] memory digests = _digests(_requests.requestDigest(1));
        vm.expectEmit(address(_requests));
        emit IBrokerRequests.ResponseSubmitted(1, IBrokerRequests.RequestStatus.Approved, responses[0]);
        _respondMany(_ids(1), digests, responses);
    }

    function test_submitResponses_skipsWithoutHarmToNeighbours() external {
        _submit(); // 1: superseded by 2
        _submit(); // 2: out of time
        vm.warp(START + 23 hours);
        _submitOther(); // 3: already answered
        _submitOther(); // 4: other content than the broker saw
        _submitOther(); // 5: fine
        _respond(3);
        vm.warp(START + 24 hours + 1);
        uint256[] memory ids = new uint256[](9);
        bytes32[] memory digests = new bytes32[](9);
        (ids[0], ids[1], ids[2], ids[3], ids[4]) = (1, 2, 3, 4, 5);
        (ids[5], ids[6], ids[7], ids[8]) = (0, 6, type(uint256).max, 5); // unknown ids, and one twice
        for (uint256 i = 0; i < 5; i++) {
            digests[i] = _requests.requestDigest(ids[i]);
        }
        digests[3] = bytes32(uint256(digests[3]) ^ 1);
        digests[8] = digests[4];
        vm.recordLogs();
        _respondMany(ids, digests, _responses(9, 277));

        Vm.Log[] memory logs = vm.getRecordedLogs();
        vm.assertEq(logs.length, 9, "an event each");
        for (uint256 i = 0; i < 9; i++) {
            bytes32 expected =
                i == 4 ? IBrokerRequests.ResponseSubmitted.selector : IBrokerRequests.ResponseSkipped.selector;
            vm.assertEq(logs[i].topics[0], expected, "event");
            vm.assertEq(uint256(logs[i].topics[1]), ids[i], "id");
        }
        vm.assertEq(_requests.getRequest(5).responsePayload, _bytes(4, 277), "the good one, once");
        vm.assertEq(_requests.getRequest(3).responsePayload, RESPONSE, "the earlier answer stays");
        vm.assertEq(_requests.getRequest(4).responsePayload, "", "other content");
        vm.assertEq(_requests.getRequest(2).responsePayload, "", "out of time");
        _assertCounts(2, 2, "2 and 4 pending, 3 and 5 active");
    }

    function test_submitResponses_takesLastSecond() external {
        _submit();
        vm.warp(START + 24 hours);
        _respondMany(_ids(1), _responses(1, 277));
        _assertStatus(1, IBrokerRequests.RequestStatus.Approved, "answered");
    }

    function test_submitResponses_storesNothingWhenAllAreSkipped() external {
        _submit();
        _respondMany(_ids(1), _digests(0), _responses(1, 277));
        _respondMany(new uint256[](0), new bytes32[](0), new bytes[](0));
        _assertCounts(1, 0, "still pending");
        vm.assertEq(vm.computeCreateAddress(address(_requests), 2).code.length, 0, "no data contract");
        _respond(1);
        vm.assertEq(_requests.getRequest(1).responsePayload, RESPONSE, "answered after");
    }

    function test_submitResponses_keepsPayloadsThatShareCalldata() external {
        for (uint256 i = 0; i < 3; i++) {
            _submitOther();
        }
        // By hand, three items that all point to the same 1000 bytes: together longer than the whole calldata.
        bytes memory payload = _bytes(1, 1000);
        bytes memory lists = abi.encode(_idsFrom(1, 3), _digestsOf(_idsFrom(1, 3)), new bytes[](0));
        bytes memory head = abi.encodePacked(uint256(96), uint256(224), uint256(352));
        bytes memory tail = abi.encodePacked(uint256(3), uint256(96), uint256(96), uint256(96), uint256(1000), payload);
        bytes memory middle = new bytes(256);
        for (uint256 i = 0; i < 256; i++) {
            middle[i] = lists[96 + i];
        }
        vm.prank(_broker);
        (bool ok,) = address(_requests)
            .call(abi.encodePacked(IBrokerRequests.submitResponses.selector, head, middle, tail, new bytes(24)));
        vm.assertTrue(ok, "accepted");
        for (uint256 id = 1; id <= 3; id++) {
            vm.assertEq(_requests.getRequest(id).responsePayload, payload, "response");
        }
    }

    function test_submitResponses_reverts() external {
        _submit();
        vm.prank(_host);
        vm.expectRevert(_unauthorized(_host));
        _requests.submitResponses(_ids(1), _digests(0), _responses(1, 1));
        vm.startPrank(_broker);
        vm.expectRevert(abi.encodeWithSelector(IBrokerRequests.LengthMismatch.selector, 1, 0, 1));
        _requests.submitResponses(_ids(1), new bytes32[](0), _responses(1, 1));
        vm.expectRevert(abi.encodeWithSelector(IBrokerRequests.LengthMismatch.selector, 1, 1, 2));
        _requests.submitResponses(_ids(1), _digests(0), _responses(2, 1));
        vm.expectRevert(abi.encodeWithSelector(IBrokerRequests.InvalidPayloadLength.selector, 0, 4096));
        _requests.submitResponses(_ids(1), _digests(0), _responses(1, 0));
        vm.expectRevert(abi.encodeWithSelector(IBrokerRequests.InvalidPayloadLength.selector, 4097, 4096));
        _requests.submitResponses(_ids(1), _digests(0), _responses(1, 4097));
    }

    function test_fuzz_submitResponses(uint16[6] calldata lengths, uint8 skip) external {
        bytes[] memory responses = new bytes[](6);
        bytes32[] memory digests = new bytes32[](6);
        for (uint256 i = 0; i < 6; i++) {
            digests[i] = _requests.requestDigest(_submitOther());
            if (skip >> i & 1 == 1) digests[i] = 0;
            responses[i] = _bytes(i, _bound(lengths[i], 1, 4096));
        }
        _respondMany(_idsFrom(1, 6), digests, responses);
        for (uint256 i = 0; i < 6; i++) {
            bytes memory expected = skip >> i & 1 == 1 ? bytes("") : responses[i];
            vm.assertEq(_requests.getRequest(i + 1).responsePayload, expected, "response");
        }
    }

    // ---- releaseAllocation

    function test_releaseAllocation_byBroker() external {
        _submit();
        _respond(1);
        vm.warp(START + 50);
        vm.expectEmit(address(_requests));
        emit IBrokerRequests.AllocationReleased(1, address(_nft), _broker);
        _release(_broker);
        _assertStatus(1, IBrokerRequests.RequestStatus.Expired, "status");
        vm.assertEq(_requests.getRequest(1).respondedAt, START + 50, "closed now");
        vm.assertEq(_mapped(_nft), 0, "mapping");
        vm.assertEq(_requests.releaseCount(), 1, "counted");
        _assertCounts(0, 0, "none");
    }

    function test_releaseAllocation_byHost() external {
        _submit();
        vm.expectEmit(address(_requests));
        emit IBrokerRequests.AllocationReleased(1, address(_nft), _host);
        _release(_host);
        _assertCounts(0, 0, "a pending request may be withdrawn");
        _submit();
        vm.assertEq(_mapped(_nft), 2, "and made again");
    }

    function test_releaseAllocation_byWhoOwnsNow() external {
        _submit();
        _nft.setOwner(_stranger);
        vm.prank(_host);
        vm.expectRevert(abi.encodeWithSelector(IBrokerRequests.NotNftOwner.selector, _host, _stranger));
        _requests.releaseAllocation(address(_nft));
        _release(_stranger);
        vm.assertEq(_mapped(_nft), 0, "mapping");
    }

    function test_releaseAllocation_byBrokerOfBrokenNft() external {
        _submit();
        vm.etch(address(_nft), "");
        vm.prank(_host);
        vm.expectRevert(abi.encodeWithSelector(IBrokerRequests.NotNftOwner.selector, _host, address(0)));
        _requests.releaseAllocation(address(_nft));
        _release(_broker);
        vm.assertEq(_mapped(_nft), 0, "mapping");
    }

    function test_releaseAllocation_revertsWithNoAllocation() external {
        vm.prank(_broker);
        vm.expectRevert(abi.encodeWithSelector(IBrokerRequests.NoAllocation.selector, address(_nft)));
        _requests.releaseAllocation(address(_nft));
        _submit();
        _release(_host);
        vm.prank(_host);
        vm.expectRevert(abi.encodeWithSelector(IBrokerRequests.NoAllocation.selector, address(_nft)));
        _requests.releaseAllocation(address(_nft));
    }

    function test_fuzz_releaseAllocation(address by, bool answered) external {
        _submit();
        if (answered) _respond(1);
        vm.prank(by);
        (bool ok,) = address(_requests).call(abi.encodeCall(IBrokerRequests.releaseAllocation, (address(_nft))));
        vm.assertEq(ok ? 1 : 0, by == _broker || by == _host ? 1 : 0, "only the broker and the host");
        vm.assertEq(_mapped(_nft), ok ? 0 : 1, "mapping");
    }

    // ---- releaseRequest

    function test_releaseRequest_releasesTheLiveOne() external {
        _submit();
        _respond(1);
        vm.expectEmit(address(_requests));
        emit IBrokerRequests.AllocationReleased(1, address(_nft), _host);
        vm.prank(_host);
        _requests.releaseRequest(1);
        _assertStatus(1, IBrokerRequests.RequestStatus.Expired, "status");
        vm.assertEq(_mapped(_nft), 0, "mapping");
        vm.assertEq(_requests.releaseCount(), 1, "counted");
    }

    function test_releaseRequest_neverHitsAnother() external {
        _submit();
        _submit();
        vm.startPrank(_broker);
        vm.expectRevert(abi.encodeWithSelector(IBrokerRequests.NoAllocation.selector, address(_nft)));
        _requests.releaseRequest(1);
        vm.expectRevert(abi.encodeWithSelector(IBrokerRequests.NoAllocation.selector, address(0)));
        _requests.releaseRequest(0);
        vm.expectRevert(abi.encodeWithSelector(IBrokerRequests.NoAllocation.selector, address(0)));
        _requests.releaseRequest(3);
        vm.assertEq(_mapped(_nft), 2, "the newer one is live");
        _requests.releaseRequest(2);
        vm.expectRevert(abi.encodeWithSelector(IBrokerRequests.NoAllocation.selector, address(_nft)));
        _requests.releaseRequest(2);
    }

    function test_fuzz_releaseRequest(uint256 id, address by) external {
        _submit();
        _submit();
        id = _bound(id, 0, 3);
        vm.prank(by);
        (bool ok,) = address(_requests).call(abi.encodeCall(IBrokerRequests.releaseRequest, (id)));
        vm.assertEq(ok ? 1 : 0, id == 2 && (by == _broker || by == _host) ? 1 : 0, "the live one, by its parties");
        vm.assertEq(_mapped(_nft), ok ? 0 : 2, "mapping");
    }

    // ---- the rest of the state-changing functions: BrokerRequestsAdmin.t.sol

    function _notPending(uint256 id, IBrokerRequests.RequestStatus status) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IBrokerRequests.RequestNotPending.selector, id, status);
    }

    function _digestsOf(uint256[] memory ids) private view returns (bytes32[] memory digests) {
        digests = new bytes32[](ids.length);
        for (uint256 i = 0; i < ids.length; i++) {
            digests[i] = _requests.requestDigest(ids[i]);
        }
    }

    /// @dev The documented formula, from what getRequest answers.
    function _digestOf(uint256 id) private view returns (bytes32) {
        IBrokerRequests.Request memory r = _requests.getRequest(id);
        bytes32 payloadHash = keccak256(abi.encodePacked(hex"00", r.encryptedPayload));
        return keccak256(abi.encode(block.chainid, address(_requests), id, r.requester, r.nftContract, payloadHash));
    }
}
